# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""DT_GNU_HASH: ask a file for one exported symbol without reading its tables.

Layout (as ld.so reads it): u32 buckets, u32 first hashed symbol, u32 bloom words,
u32 bloom shift; the bloom filter (u64 each); the buckets (u32 each).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import DT_GNU_HASH

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

_HEAD = struct.Struct("<IIII")


def hash_name(name: bytes) -> int:
    """Hash a symbol's name: h * 33 + c from 5381 on, 32 bits."""
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def may_export(elf: ElfFile, name: str) -> bool:
    """Tell whether a file may export `name`: False is certain, True nearly so.

    True also where the file has no such table to ask (`.hash` only, static files).
    """
    table = elf.dynamic.get(DT_GNU_HASH)
    if table is None:
        return True
    try:
        buckets, _, bloom_words, shift = _HEAD.unpack(elf.read_address(table, _HEAD.size))
        if not buckets or not bloom_words:
            return True
        value = hash_name(name.encode())
        at = table + _HEAD.size + 8 * (value // 64 % bloom_words)
        word = int.from_bytes(elf.read_address(at, 8), "little")
        if not word >> (value % 64) & word >> ((value >> shift) % 64) & 1:
            return False
        bucket = table + _HEAD.size + 8 * bloom_words + 4 * (value % buckets)
        return any(elf.read_address(bucket, 4))
    except BadElf:
        return True
