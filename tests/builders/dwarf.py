# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""One unit of DWARF 5 with functions, as few bytes as can be."""

from __future__ import annotations

import struct

UNIT = struct.Struct("<IHBBI")
STRINGS = b"\0one\0two\0"
ONE, TWO = 1, 5
"""Where the names are."""
# Code, DW_TAG, no children, (attribute, form)…: a name by strp; a line by data1, ref4, a flag.
ABBREVS = bytes(
    [
        *(1, 0x11, 0, 0, 0),
        *(2, 0x2E, 0, 0x03, 0x0E, 0x3B, 0x0B, 0, 0),
        *(3, 0x2E, 0, 0x03, 0x0E, 0x47, 0x13, 0, 0),
        *(4, 0x2E, 0, 0x03, 0x0E, 0x3B, 0x0B, 0x3C, 0x19, 0, 0),
        0,
    ]
)
FIRST = UNIT.size + 1
"""Where the first entry behind that of the unit is."""


def entry(code: int, name: int, *rest: int) -> bytes:
    """Make an entry: 2 is a function with a line, 3 a specification of another, 4 a declaration."""
    return struct.pack("<BI", code, name) + bytes(rest)


def unit(*entries: bytes) -> bytes:
    """Make `.debug_info` of one unit."""
    body = b"\x01" + b"".join(entries)
    return UNIT.pack(UNIT.size - 4 + len(body), 5, 1, 8, 0) + body


def joined(info: bytes, abbrevs: bytes = ABBREVS, strings: bytes = STRINGS) -> bytes:
    """Put sections into one input of the driver."""
    return struct.pack("<4I", len(info), len(abbrevs), len(strings), 0) + info + abbrevs + strings
