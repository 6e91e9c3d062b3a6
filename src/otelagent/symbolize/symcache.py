# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lines and inlined functions from DWARF, by `symbolic`'s symcaches.

DWARF is turned into a symcache by a child process with limits: that costs
memory and seconds, and the input is the target's, which may be hostile or
shrink while it is mapped. The result is kept on disk and mapped from there.
Without the package `symbolic` there are names but no lines.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import resource
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelagent.errors import BadElf

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

NO_PACKAGE = "no source lines: the package symbolic is not installed"
NO_DEBUG_INFO = "no source lines: the file has no debug information"
DWZ = "no source lines: the debug information refers to another file (dwz)"
TOO_LARGE = "no source lines: the debug information is too large"
NOT_CONVERTED = "no source lines: the debug information could not be read"

MAX_INPUT_BYTES = 3 << 30
MAX_OUTPUT_BYTES = 1 << 30
MAX_CHILD_BYTES = 4 << 30
CHILD_SECONDS = 120
MAX_INLINED = 128
FORMAT = "1"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Location:
    """One function at an address: raw name, file and line (0 if not known).

    Where the function is declared symcaches do not tell.
    """

    name: str
    file: str
    line: int


class LineTable:
    """Looks up inlined functions and lines. Not to be shared between threads."""

    def __init__(self, cache: Any, base: int) -> None:  # noqa: ANN401 (symbolic has no types)
        self._cache = cache
        self._base = base

    def find(self, addr: int) -> list[Location]:
        """Find what an ELF address belongs to, innermost first; empty if nothing has a line."""
        if addr < self._base:
            return []
        rows = self._rows(addr - self._base)
        found = [Location(row.symbol, row.full_path or "", row.line) for row in rows]
        return found if any(one.file and one.line for one in found) else []

    def _rows(self, offset: int) -> list[Any]:
        try:
            rows: list[Any] = self._cache.lookup(offset)
        except Exception as err:  # noqa: BLE001 (symbolic's errors have no useful common base)
            _logger.debug("symcache look-up failed error=%s", err)
            return []
        return rows[:MAX_INLINED]


def has_debug_info(elf: ElfFile) -> bool:
    """Tell whether the file itself has DWARF."""
    return elf.section(".debug_info") is not None


def open_lines(elf: ElfFile, cache_dir: Path | None = None) -> tuple[LineTable | None, str]:
    """Open the lines of a file with DWARF; without them, the reason.

    Args:
        elf: The file with `.debug_info`, opened from a descriptor.
        cache_dir: Where symcaches are kept; None keeps it only as long as it is used.
    """
    fd = getattr(elf.source, "fd", -1)
    if not has_debug_info(elf):
        return None, NO_DEBUG_INFO
    if elf.section(".gnu_debugaltlink") is not None:
        return None, DWZ
    if importlib.util.find_spec("symbolic") is None:
        return None, NO_PACKAGE
    if fd < 0 or elf.source.size > MAX_INPUT_BYTES:
        return None, TOO_LARGE
    try:
        base = min((segment.vaddr for segment in elf.loads()), default=0)
        cache = _cached(elf, fd, cache_dir) if cache_dir else _converted(fd)
    except (BadElf, OSError, ValueError, subprocess.SubprocessError) as err:
        _logger.debug("no symcache error=%s", err)
        return None, NOT_CONVERTED
    return (LineTable(cache, base), "") if cache is not None else (None, NOT_CONVERTED)


def _cached(elf: ElfFile, fd: int, cache_dir: Path) -> Any:  # noqa: ANN401
    folder = cache_dir / "symcache"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / (_key(elf) + ".symcache")
    cache = _open_cache(target)
    if cache is not None:
        return cache
    handle, name = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        if not _convert(fd, handle):
            return None
        Path(name).rename(target)
        return _open_cache(target)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


def _converted(fd: int) -> Any:  # noqa: ANN401
    handle = os.memfd_create("symcache", os.MFD_CLOEXEC)
    try:
        return _load(f"/proc/self/fd/{handle}") if _convert(fd, handle) else None
    finally:
        os.close(handle)


def _open_cache(path: Path) -> Any:  # noqa: ANN401
    """Open an entry that is ours: a regular file of our user that nobody else may write."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        is_ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if not stat.S_ISREG(status.st_mode) or not is_ours or not status.st_size:
            return None
        return _load(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _load(path: str) -> Any:  # noqa: ANN401
    from symbolic.exceptions import SymbolicError  # noqa: PLC0415 (27 ms, and optional)
    from symbolic.symcache import SymCache  # noqa: PLC0415

    opener: Any = SymCache.open
    try:
        return opener(path)
    except SymbolicError as err:
        _logger.debug("symcache is broken error=%s", err)
        return None


def _key(elf: ElfFile) -> str:
    """Identify the debug information: build id, size, ends, and all of it if there is no id."""
    digest = hashlib.sha256(f"{FORMAT} {elf.build_id} {elf.source.size}".encode())
    digest.update(elf.source.read_at(0, 4096))
    digest.update(elf.source.read_at(max(0, elf.source.size - 4096), 4096))
    names = (".debug_line",) if elf.build_id else (".debug_line", ".debug_info", ".debug_str")
    for section in elf.sections:
        if section.name in names:
            for offset in range(0, section.size, 1 << 20):
                size = min(1 << 20, section.size - offset)
                digest.update(elf.source.read_at(section.offset + offset, size))
    return digest.hexdigest()[:40]


def _convert(fd: int, target: int) -> bool:
    """Let a child write the symcache of `fd` into `target`."""
    command = [sys.executable, "-P", "-m", __name__, str(fd), str(target)]
    result = subprocess.run(
        command,
        pass_fds=(fd, target),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=CHILD_SECONDS * 2,
        check=False,
    )
    if result.returncode:
        _logger.debug("symcache child failed status=%s", result.returncode)
    return result.returncode == 0


def main(fd: int, target: int) -> int:
    """Convert, in the child: the limits hold for this process only."""
    for what, limit in (
        (resource.RLIMIT_AS, MAX_CHILD_BYTES),
        (resource.RLIMIT_CPU, CHILD_SECONDS),
        (resource.RLIMIT_FSIZE, MAX_OUTPUT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    os.nice(5)
    from symbolic.debuginfo import Archive  # noqa: PLC0415 (only the child pays for it)

    archive = Archive.open(f"/proc/self/fd/{fd}")
    for item in archive.iter_objects():
        with os.fdopen(target, "wb", closefd=False) as stream:
            cache: Any = item.make_symcache()
            cache.dump_into(stream)
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
