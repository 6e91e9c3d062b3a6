# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the symbols of a stripped file are: beside it, inside it, or on a server.

In this order: `.gnu_debugdata` (an xz-compressed ELF file with the local
functions), the build-id directories, `.gnu_debuglink` (name and CRC-32), and a
debuginfod server only if one was named. A file counts only if its build id (or
CRC) is the one asked for: names from another build would be wrong.
"""

from __future__ import annotations

import logging
import lzma
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import BadElf, TargetError
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.host.files import FileSource, open_file, open_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otelagent.formats.elf import Source

DEBUG_DIRS = (Path("/usr/lib/debug"),)
MAX_MINI_BYTES = 64 << 20
MAX_MINI_PACKED_BYTES = 32 << 20
MAX_CRC_BYTES = 4 << 30

_logger = logging.getLogger(__name__)


def open_elf(path: str, root: str = "") -> ElfFile | None:
    """Open an ELF file, inside of `root` if one is given; None if it is not there or not one."""
    try:
        source = open_target(root, path) if root else open_file(path)
    except TargetError:
        return None
    try:
        return ElfFile(source)
    except BadElf:
        source.close()
        return None


def read_mini(elf: ElfFile) -> ElfFile | None:
    """Unpack `.gnu_debugdata`; None if there is none, or it is broken or too large."""
    section = elf.section(".gnu_debugdata")
    if section is None or section.size > MAX_MINI_PACKED_BYTES:
        return None
    unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MINI_BYTES * 2)
    try:
        data = unpack.decompress(elf.read(section.offset, section.size), MAX_MINI_BYTES)
        return ElfFile(BytesSource(data))
    except (lzma.LZMAError, BadElf, EOFError):
        return None


def debug_link(elf: ElfFile) -> tuple[str, int] | None:
    """Read `.gnu_debuglink`: the debug file's name and its CRC-32."""
    section = elf.section(".gnu_debuglink")
    if section is None or not 8 <= section.size <= 4096:
        return None
    data = elf.section_data(section)
    name = data.partition(b"\0")[0]
    if not name or b"/" in name or name in (b".", b".."):
        return None
    return os.fsdecode(name), int.from_bytes(data[-4:], "little")


def crc32(source: Source) -> int:
    """Compute the CRC-32 that debug links use, piece by piece."""
    value = 0
    for offset in range(0, source.size, 1 << 20):
        value = zlib.crc32(source.read_at(offset, 1 << 20), value)
    return value


def build_id_path(build_id: str) -> str:
    """Give the path below a debug directory for a build id in hex."""
    return f".build-id/{build_id[:2]}/{build_id[2:]}.debug"


def _same_layout(elf: ElfFile, debug: ElfFile) -> bool:
    """Tell whether both place their code at the same addresses (prelink moves it)."""
    ours = [s.vaddr for s in elf.executable_loads()]
    theirs = [s.vaddr for s in debug.executable_loads()]
    return debug.machine == elf.machine and ours == theirs


def _candidates(elf: ElfFile, path: str, dirs: Sequence[Path]) -> Iterator[str]:
    """List where a debug file may be."""
    if len(elf.build_id) > 4:
        yield from (f"{folder}/{build_id_path(elf.build_id)}" for folder in dirs)
    link = debug_link(elf)
    if link is None:
        return
    home = os.path.dirname(path)  # noqa: PTH120 (the target's path, not ours)
    yield f"{home}/{link[0]}"
    yield f"{home}/.debug/{link[0]}"
    yield from (f"{folder}{home}/{link[0]}" for folder in dirs)


def is_debug_file_of(elf: ElfFile, debug: ElfFile) -> bool:
    """Tell whether `debug` was made from `elf`: by build id, else by the link's CRC."""
    try:
        if not _same_layout(elf, debug):
            return False
        if elf.build_id or debug.build_id:
            return elf.build_id == debug.build_id
        link = debug_link(elf)
        if link is None or debug.source.size > MAX_CRC_BYTES:
            return False
        return crc32(debug.source) == link[1]
    except BadElf:
        return False


def find_debug_file(
    elf: ElfFile, path: str, *, dirs: Sequence[Path] = DEBUG_DIRS, root: str = ""
) -> ElfFile | None:
    """Find the separate debug file of `elf`, which the target knows as `path`.

    It is looked for in the target's root first, then in ours.
    """
    if elf.stands_alone:
        return None
    for place in dict.fromkeys((root, "")):
        for candidate in dict.fromkeys(_candidates(elf, path, dirs)):
            debug = open_elf(candidate, place)
            if debug is None:
                continue
            if is_debug_file_of(elf, debug):
                _logger.debug("debug file path=%s for=%s", candidate, path)
                return debug
            close(debug)
    return None


def close(elf: ElfFile | None) -> None:
    """Close the file behind an ELF file that was opened here."""
    if elf is not None and isinstance(elf.source, FileSource):
        elf.source.close()
