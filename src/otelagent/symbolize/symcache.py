# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lines and inlined functions from DWARF, by `symbolic`'s symcaches.

DWARF is turned into a symcache by a child process with limits: that costs
memory and seconds, and the input is the target's, which may be hostile or
shrink while it is mapped. It is forked: to start Python and import `symbolic` takes far
longer than most conversions. The result is kept on disk and mapped from there; beside it,
where functions are declared (`declared.py`), which it does not tell.
Without the package `symbolic` there are names but no lines.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import mmap
import os
import resource
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from otelagent.errors import BadElf
from otelagent.formats.elf import ElfFile
from otelagent.host import child
from otelagent.host.files import FileSource
from otelagent.symbolize.declared import Declared, read_declared

if TYPE_CHECKING:
    from collections.abc import Callable

NO_PACKAGE = "no source lines: the package symbolic is not installed"
NO_DEBUG_INFO = "no source lines: the file has no debug information"
DWZ = "no source lines: the debug information refers to another file (dwz)"
SPLIT = "no source lines: they are in .dwo files (split DWARF)"
OLD_PACKED = "no source lines: the debug information is packed in an old way (.zdebug)"
TOO_LARGE = "no source lines: the debug information is too large"
NOT_CONVERTED = "no source lines: the debug information could not be read"
NO_TIME = "no source lines: there was no time to read the debug information"

MAX_INPUT_BYTES = 3 << 30
MAX_OUTPUT_BYTES = 1 << 30
MAX_CHILD_BYTES = 4 << 30
CHILD_SECONDS = 120
MAX_INLINED = 128
FORMAT = "3"

_logger = logging.getLogger(__name__)


class _Haste:
    is_late: Callable[[], bool] = staticmethod(lambda: False)


def hurry_when(is_late: Callable[[], bool]) -> None:
    """Give up conversions while `is_late` says so, which is asked ten times a second.

    Functions have names without lines then. For whoever must end soon: a conversion may take
    minutes.
    """
    _Haste.is_late = staticmethod(is_late)


class _Opened(NamedTuple):
    """A symcache, the file that it is in, and the declarations beside it."""

    cache: Any
    mapped: mmap.mmap
    declared: Declared


@dataclass(frozen=True, slots=True)
class Location:
    """One function at an address: raw name, file, line, and where it is declared (0: not known)."""

    name: str
    file: str
    line: int
    start_line: int


class LineTable:
    """Looks up inlined functions and lines. Not to be shared between threads."""

    def __init__(self, opened: _Opened, base: int) -> None:
        self._cache = opened.cache
        self._mapped = opened.mapped
        self._declared = opened.declared
        self._base = base

    def rest(self) -> None:
        """Let nothing be resident of the files, whose pages stay in the page cache."""
        self._mapped.madvise(mmap.MADV_DONTNEED)
        self._declared.rest()

    def find(self, addr: int) -> list[Location]:
        """Find what an ELF address belongs to, innermost first; empty if nothing has a line."""
        if addr < self._base:
            return []
        rows = self._rows(addr - self._base)
        found = [self._location(row) for row in rows]
        return found if any(one.file and one.line for one in found) else []

    def _location(self, row: Any) -> Location:  # noqa: ANN401 (symbolic has no types)
        start_line = self._declared.find(row.symbol)
        return Location(row.symbol, row.full_path or "", row.line, start_line)

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
    if why := _why_not(elf, fd):
        return None, why
    try:
        base = min((segment.vaddr for segment in elf.loads()), default=0)
        opened = _cached(elf, fd, cache_dir) if cache_dir else _converted(fd)
    except (BadElf, OSError, ValueError) as err:
        _logger.debug("no symcache error=%s", err)
        return None, NOT_CONVERTED
    if opened is None:
        return None, NO_TIME if _Haste.is_late() else NOT_CONVERTED
    return LineTable(opened, base), SPLIT if _is_split(elf) else ""


def _why_not(elf: ElfFile, fd: int) -> str:
    """Tell why a file's lines cannot be read; empty if they may be."""
    if not has_debug_info(elf):
        return OLD_PACKED if elf.section(".zdebug_info") else NO_DEBUG_INFO
    if elf.section(".gnu_debugaltlink") is not None:
        return DWZ
    if importlib.util.find_spec("symbolic") is None:
        return NO_PACKAGE
    return TOO_LARGE if fd < 0 or elf.source.size > MAX_INPUT_BYTES else ""


def _is_split(elf: ElfFile) -> bool:
    """Tell whether the first unit only says where its debug information is.

    That is DW_TAG_skeleton_unit (DWARF 5), or DW_AT_GNU_dwo_name among its attributes.
    """
    section = elf.section(".debug_abbrev")
    try:
        data = elf.section_data(section)[:64] if section else b""
    except BadElf:
        return False
    return data[1:2] == b"\x4a" or b"\xb0\x42" in data


def _cached(elf: ElfFile, fd: int, cache_dir: Path) -> _Opened | None:
    folder = cache_dir / "symcache"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _key(elf)
    targets = (folder / f"{key}.declared", folder / f"{key}.symcache")  # the latter is last made
    opened = _open_cache(*targets)
    if opened is not None:
        return opened
    handles = [tempfile.mkstemp(dir=folder, prefix=".new-") for _ in targets]
    try:
        if not _convert(fd, *(handle for handle, _ in handles)):
            return None
        for (_, name), target in zip(handles, targets, strict=True):
            Path(name).rename(target)
        return _open_cache(*targets)
    finally:
        for handle, name in handles:
            os.close(handle)
            Path(name).unlink(missing_ok=True)


def _converted(fd: int) -> _Opened | None:
    handles = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("declared", "symcache")]
    try:
        return _load(*handles) if _convert(fd, *handles) else None
    finally:
        for handle in handles:
            os.close(handle)


def _open_cache(declared: Path, symcache: Path) -> _Opened | None:
    """Open an entry that is ours: regular files of our user that nobody else may write."""
    with contextlib.ExitStack() as stack:
        fds = [_open_ours(path, stack) for path in (declared, symcache)]
        return _load(*fds) if min(fds) >= 0 else None


def _open_ours(path: Path, stack: contextlib.ExitStack) -> int:
    """Open a file until the stack ends; -1 if it is not there, or not ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    stack.callback(os.close, fd)
    status = os.fstat(fd)
    is_ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return fd if stat.S_ISREG(status.st_mode) and is_ours and status.st_size else -1


def _load(declared: int, symcache: int) -> _Opened | None:
    from symbolic._lowlevel import ffi  # noqa: PLC0415 (of symbolic, which takes it as it is)
    from symbolic.exceptions import SymbolicError  # noqa: PLC0415 (27 ms, and optional)
    from symbolic.symcache import SymCache  # noqa: PLC0415

    opener: Any = SymCache.from_bytes
    mapped = mmap.mmap(symcache, 0, prot=mmap.PROT_READ)
    try:
        cache = opener(ffi.from_buffer("uint8_t[]", mapped))
    except SymbolicError as err:
        _logger.debug("symcache is broken error=%s", err)
        return None
    found = Declared.open(declared)
    return _Opened(cache, mapped, found) if found else None


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


def _convert(fd: int, declared: int, symcache: int) -> bool:
    """Let a child write what it reads of `fd` into the two others."""
    if _Haste.is_late():
        return False
    import symbolic.debuginfo  # noqa: F401, PLC0415 (here, as the child may wait for no lock)

    pid = child.fork(lambda: _write(fd, declared, symcache), MAX_CHILD_BYTES)
    status = child.wait(pid, 2 * CHILD_SECONDS, _Haste.is_late)
    if status:
        _logger.debug("symcache child failed status=%s", status)
    return status == 0


def _write(fd: int, declared: int, symcache: int) -> int:
    """Convert, in the child: the limits hold for this process only."""
    for what, limit in (
        (resource.RLIMIT_CPU, CHILD_SECONDS),
        (resource.RLIMIT_FSIZE, MAX_OUTPUT_BYTES),
    ):
        resource.setrlimit(what, (limit, limit))
    os.nice(5)
    from symbolic.debuginfo import Archive  # noqa: PLC0415 (which was imported)

    archive = Archive.open(f"/proc/self/fd/{fd}")
    for item in archive.iter_objects():
        with os.fdopen(symcache, "wb", closefd=False) as stream:
            cache: Any = item.make_symcache()
            cache.dump_into(stream)
        with os.fdopen(declared, "wb", closefd=False) as stream:
            stream.write(read_declared(ElfFile(FileSource(fd))))
        return 0
    return 1
