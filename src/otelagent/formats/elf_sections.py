# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is in sections of ELF files: packed bytes, entries of symbol tables, notes."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from otelagent.errors import BadElf

if TYPE_CHECKING:
    from collections.abc import Iterator

ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD = 1, 2

_PACKED = struct.Struct("<IIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
_NOTE = struct.Struct("<III")


def unpack_section(name: str, data: bytes, most: int) -> bytes:
    """Unpack a section that has SHF_COMPRESSED, to at most so many bytes.

    Raises:
        BadElf: It cannot be unpacked, or claims to be larger.
    """
    if len(data) < _PACKED.size:
        raise BadElf(f"section {name} has no compression header")
    kind, _, size, _ = _PACKED.unpack_from(data)
    if kind not in {ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD} or size > most:
        raise BadElf(f"section {name} is compressed in a way that is not supported")
    packed = memoryview(data)[_PACKED.size :]
    plain = _unzstd(packed, size) if kind == ELFCOMPRESS_ZSTD else _unzlib(packed, size)
    if plain is None:
        raise BadElf(f"section {name} cannot be decompressed")
    return plain


def _unzlib(packed: memoryview, size: int) -> bytes | None:
    try:
        # One that claims no bytes has none; 0 would be no limit.
        return zlib.decompressobj().decompress(packed, size) if size else b""
    except zlib.error:
        return None


def _unzstd(packed: memoryview, size: int) -> bytes | None:
    import zstandard  # noqa: PLC0415 (few files need it)

    # What the frame itself claims is not believed: no more is read than the section has.
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream:
            return stream.read(size) if size else b""
    except (zstandard.ZstdError, MemoryError):
        return None


def symbols_named(symbols: bytes, start: int) -> Iterator[tuple[int, ...]]:
    """Give the entries of a symbol table whose name is at `start`, without taking all apart.

    Zeros, as most bytes of a table are, make `bytes.find` slow: only lowest bytes are searched.
    """
    wanted = start.to_bytes(4, "little")
    lowest = symbols[:: SYMBOL.size]
    number = lowest.find(wanted[0])
    while number >= 0:
        at = number * SYMBOL.size
        if symbols[at : at + 4] == wanted and at + SYMBOL.size <= len(symbols):
            yield SYMBOL.unpack_from(symbols, at)
        number = lowest.find(wanted[0], number + 1)


def iter_notes(data: bytes, align: int) -> Iterator[tuple[str, int, bytes]]:
    """Take notes apart: name, type, descriptor."""
    at = 0
    while at + _NOTE.size <= len(data):
        name_size, desc_size, kind = _NOTE.unpack_from(data, at)
        name_at = at + _NOTE.size
        desc_at = (name_at + name_size + align - 1) & -align
        end = desc_at + desc_size
        if end > len(data):
            return
        name = data[name_at : name_at + name_size].rstrip(b"\0").decode("ascii", "replace")
        yield name, kind, data[desc_at:end]
        at = (end + align - 1) & -align
