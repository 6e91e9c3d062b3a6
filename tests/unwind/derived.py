# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows derived from code, compared with those of the call frame information of the same file."""

import struct
from collections import Counter

from otelagent._native import ffi, lib
from otelagent.abi import _generated as abi
from otelagent.unwind.cfi import add_cfi, find_eh_frame
from otelagent.unwind.code import read_symbols
from otelagent.unwind.rows import RowBuilder

RBP, RSP = abi.Reg.X86_RBP, abi.Reg.X86_RSP


def derive(elf, text, data=None, symbols=None, machine=None):
    """Give the rows of a section by its code alone, and what was counted."""
    data = elf.section_data(text) if data is None else data
    builder = RowBuilder([(text.addr, text.addr + len(data))])
    whole = [(text.addr, text.addr + len(data))]
    symbols = read_symbols(elf, whole) if symbols is None else symbols
    gaps = ffi.new("struct oa_range[]", whole)
    held = [ffi.from_buffer("uint8_t[]", piece) for piece in (data, symbols)]
    code = ffi.new("struct oa_code *", (held[0], len(data), text.addr, gaps, 1, held[1]))
    code.symbol_count, code.machine, code.rank = len(symbols) // 24, machine or elf.machine, 3
    stats = ffi.new("struct oa_code_stats *")
    assert lib.oa_code_rows(builder.raw, code, stats) == 0
    return builder.finish([]), stats


def described(elf):
    """Give the rows of `.eh_frame`, and nothing else."""
    builder = RowBuilder([(s.vaddr, s.vaddr + s.filesz) for s in elf.executable_loads()])
    add_cfi(builder, elf, find_eh_frame(elf))
    return builder.finish([])


def spans(table):
    """Iterate over (start, end, what holds): None, or CFA and the caller's rbp."""
    for page, first, count in struct.iter_unpack("<III", table.pages):
        rows = struct.unpack_from(f"<{count}I", table.rows, first * 4)
        lows = [row & 0xFFFF for row in rows] + [0x10000]
        for row, low, high in zip(rows, lows, lows[1:], strict=False):
            yield (page << 16) + low, (page << 16) + high, _meaning(table, row >> 16)


def _meaning(table, index):
    if index & abi.Row.COMMAND:
        return None
    rule = table.rule(index)
    at = rule.fp_offset if rule.fp_kind == abi.RegKind.CFA else 0
    return rule.cfa_kind, rule.cfa_reg, rule.cfa_offset, rule.fp_kind, at, rule.ra_offset


def compare(ours, theirs):
    """Count bytes: `same`, `unknown` to ours, `other` ways to say it; list what differs."""
    count, differing = Counter(), []
    mine, right = list(spans(ours)), list(spans(theirs))
    i = j = 0
    while i < len(mine) and j < len(right):
        start, end = max(mine[i][0], right[j][0]), min(mine[i][1], right[j][1])
        if start < end and right[j][2] is not None:
            how = _judge(mine[i][2], right[j][2])
            count[how] += end - start
            if how == "different":
                differing.append((hex(start), mine[i][2], right[j][2]))
        i, j = (i + 1, j) if mine[i][1] < right[j][1] else (i, j + 1)
    return count, differing


def _judge(ours, theirs):
    if ours is None:
        return "unknown"
    if ours == theirs:
        return "same"
    if theirs[0] != abi.CfaKind.REG:
        return "other"  # a linkage table's expression
    if ours[1] == RBP and theirs[1] == RSP:
        return "other"  # a frame pointer is set up, and call frame information does not use it
    if ours[:3] == theirs[:3] and ours[3] == abi.RegKind.SAME and -theirs[4] > ours[2]:
        return "same"  # popped: it is in rbp, and still below the stack pointer
    if ours[:3] == theirs[:3] and ours[3] == abi.RegKind.CFA and theirs[3] == abi.RegKind.SAME:
        return "same"  # pushed just now, and still in rbp: clang says so later
    return "different"
