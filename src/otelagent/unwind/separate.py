# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Call frame information that was stripped into another file (musl, some assembler libraries).

Asked only for files that hardly describe any function themselves:
`.gnu_debugdata` inside of the file, then the host's build-id directory. A file
that is only linked by name (`.gnu_debuglink`) is not taken: its name could lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import BadElf, TargetError
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.host.files import FileSource, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBUG_DIRECTORY = Path("/usr/lib/debug/.build-id")
MAX_UNPACKED_BYTES = 64 << 20
_MIN_BUILD_ID = 8


def separate_files(elf: ElfFile) -> Iterator[tuple[str, ElfFile]]:
    """Yield what there is as (name, file); a file is closed when the next is asked for.

    Raises:
        BadElf: Compressed debug data cannot be unpacked.
    """
    section = elf.section(".gnu_debugdata")
    if section is not None:
        yield ".gnu_debugdata", ElfFile(BytesSource(_unpack(elf.section_data(section))))
    source = None if elf.stands_alone else _open_by_build_id(elf.build_id)
    if source is None:
        return
    with source:
        found = ElfFile(source)
        if found.build_id == elf.build_id and found.machine == elf.machine:
            yield "separate debug file", found


def separate_key(elf: ElfFile) -> bytes:
    """Tell states of the host's debug file apart, so that a new one is noticed."""
    source = _open_by_build_id(elf.build_id)
    if source is None:
        return b""
    with source:
        return repr(source.key).encode()


def _open_by_build_id(build_id: str) -> FileSource | None:
    if len(build_id) < _MIN_BUILD_ID:
        return None
    try:
        return open_file(str(DEBUG_DIRECTORY / build_id[:2] / f"{build_id[2:]}.debug"))
    except TargetError:
        return None


def _unpack(packed: bytes) -> bytes:
    import lzma  # noqa: PLC0415 (hardly any file needs it)

    unpacker = lzma.LZMADecompressor(memlimit=MAX_UNPACKED_BYTES * 2)
    try:
        data = unpacker.decompress(packed, MAX_UNPACKED_BYTES)
    except (lzma.LZMAError, MemoryError) as err:
        raise BadElf(".gnu_debugdata cannot be unpacked") from err
    if not unpacker.eof:
        raise BadElf(".gnu_debugdata is too large")
    return data
