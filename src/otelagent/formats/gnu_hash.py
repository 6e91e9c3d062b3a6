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
from otelagent.formats.elf import DT_GNU_HASH, DT_STRTAB, DT_SYMTAB, ElfSymbol
from otelagent.formats.elf_sections import SYMBOL

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

_HEAD = struct.Struct("<IIII")
MAX_CHAIN = 256
"""Symbols of one bucket that are looked at; linkers put a few into each."""


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


def find_export(elf: ElfFile, name: str) -> ElfSymbol | None:
    """Find a symbol that a file defines and exports, without reading its tables.

    None also where the file has no such table to ask.
    """
    table = elf.dynamic.get(DT_GNU_HASH)
    if table is None:
        return None
    try:
        buckets, first, bloom_words, _ = _HEAD.unpack(elf.read_address(table, _HEAD.size))
        value, at = hash_name(name.encode()), table + _HEAD.size + 8 * bloom_words
        number = int.from_bytes(elf.read_address(at + 4 * (value % (buckets or 1)), 4), "little")
        chains = elf.offset_of(at + 4 * buckets)
        if number < first or chains is None:
            return None
        chain = elf.source.read_at(chains + 4 * (number - first), 4 * MAX_CHAIN)
        for (found,) in struct.iter_unpack("<I", chain[: len(chain) & ~3]):
            if (found ^ value) >> 1 == 0 and (symbol := _exported(elf, number, name)):
                return symbol
            if found & 1:
                break
            number += 1
    except BadElf:
        pass  # it lies, or was cut: as if it had none
    return None


def _exported(elf: ElfFile, number: int, name: str) -> ElfSymbol | None:
    """Read a symbol of the dynamic symbol table, if it is defined and has this name."""
    symbols, strings = elf.dynamic.get(DT_SYMTAB, 0), elf.dynamic.get(DT_STRTAB, 0)
    raw = elf.read_address(symbols + number * SYMBOL.size, SYMBOL.size)
    start, info, _, where, value, size = SYMBOL.unpack(raw)
    wanted = name.encode() + b"\0"
    if not where or elf.read_address(strings + start, len(wanted)) != wanted:
        return None
    return ElfSymbol(name, value, size, info & 15, info >> 4, where)
