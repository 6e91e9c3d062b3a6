# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Memory made of pieces, and code objects as CPython lays them out."""

import struct

from otelagent.errors import MemoryFault
from otelagent.interpreters.python.layout import Layout


class FakeMemory:
    """`protocols.Memory` over pieces of bytes by address; counts its reads."""

    def __init__(self, pieces: dict[int, bytes]) -> None:
        self.pieces = pieces
        self.reads = 0

    def read(self, addr: int, size: int) -> bytes:
        self.reads += 1
        for start, data in self.pieces.items():
            if start <= addr and addr + size <= start + len(data):
                return data[addr - start : addr - start + size]
        raise MemoryFault(addr, size)

    def put(self, addr: int, data: bytes) -> int:
        self.pieces[addr] = data
        return addr


def text_object(layout: Layout, text: str, *, length: int | None = None, kind: int = 0) -> bytes:
    """Lay out a compact string as `PyUnicode_New` does."""
    widest = max(map(ord, text), default=0)
    width = 1 if widest < 256 else 2 if widest < 65536 else 4
    ascii_only = widest < 128
    state = (kind or width) << 2 | 1 << 5 | ascii_only << 6
    head = struct.pack("<QQqqI", 1, 0, len(text) if length is None else length, -1, state)
    size = layout.ascii_bytes if ascii_only else layout.compact_bytes
    encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width]
    return head.ljust(size, b"\0") + text.encode(encoding) + bytes(width)


def bytes_object(data: bytes, size: int | None = None) -> bytes:
    return struct.pack("<QQqq", 1, 0, len(data) if size is None else size, -1) + data + b"\0"


def code_object(
    layout: Layout, *, name: int, filename: int, table: int, first_line: int, flags: int = 3
) -> bytes:
    data = bytearray(256)
    struct.pack_into("<i", data, layout.code_argcount, 2)
    struct.pack_into("<i", data, layout.code_kwonly, 1)
    struct.pack_into("<i", data, layout.code_flags, flags)
    struct.pack_into("<i", data, layout.code_firstlineno, first_line)
    struct.pack_into("<Q", data, layout.code_qualname or layout.code_name, name)
    struct.pack_into("<Q", data, layout.code_filename, filename)
    struct.pack_into("<Q", data, layout.code_lines, table)
    return bytes(data)
