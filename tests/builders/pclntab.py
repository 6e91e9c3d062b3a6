# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes Go function tables (pclntab) of every known layout."""

import struct
from dataclasses import dataclass

MAGIC = {"1.16": 0xFFFFFFFA, "1.18": 0xFFFFFFF0, "1.20": 0xFFFFFFF1}


@dataclass(frozen=True)
class GoFunction:
    """`depths`: (stack depth, bytes of code), in order."""

    name: str
    entry: int
    depths: tuple[tuple[int, int], ...]
    func_id: int = 0
    flags: int = 0


def uleb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encode_depths(depths, quantum: int) -> bytes:
    out, before = b"", -1
    for depth, size in depths:
        change = depth - before
        out += uleb(change << 1 if change >= 0 else (-change << 1) - 1) + uleb(size // quantum)
        before = depth
    return out + b"\0"


def build_pclntab(functions, *, version="1.20", text=0x1000, quantum=1, header_text=None) -> bytes:
    """Build a table; `text` is what entries are relative to, `header_text` what the header says.

    As Go's linker does, equal depths are written once.
    """
    relative = version != "1.16"
    names, pctab, name_at, pcsp_at = b"\0", bytearray(1), [], []
    written: dict[bytes, int] = {}
    for function in functions:
        name_at.append(len(names))
        names += function.name.encode() + b"\0"
        depths = encode_depths(function.depths, quantum)
        pcsp_at.append(written.setdefault(depths, len(pctab)))
        if pcsp_at[-1] == len(pctab):
            pctab += depths
    width = 4 if relative else 8
    base = text if relative else 0
    records, pairs = b"", []
    records_at = (len(functions) * 2 + 1) * width
    records_at += -records_at % 8
    for function, name, pcsp in zip(functions, name_at, pcsp_at, strict=True):
        pairs += [function.entry - base, records_at + len(records)]
        entry = (function.entry - base).to_bytes(width, "little")
        fields = struct.pack("<iiIIIIII", name, 0, 0, pcsp, 0, 0, 0, 0)
        line = struct.pack("<i", 1) if version == "1.20" else b""
        records += entry + fields + line + bytes([function.func_id, function.flags, 0, 0])
        records += bytes(-len(records) % 8)
    last = functions[-1]
    pairs.append(last.entry - base + sum(size for _, size in last.depths))
    table = b"".join(pair.to_bytes(width, "little") for pair in pairs)
    table = table.ljust(records_at, b"\0") + records
    head = struct.pack("<IHBBQQ", MAGIC[version], 0, quantum, 8, len(functions), 0)
    if relative:
        head += struct.pack("<Q", text if header_text is None else header_text)
    start = len(head) + 40
    offsets = (start, start, start, start + len(names), start + len(names) + len(pctab))
    return head + struct.pack("<5Q", *offsets) + names + pctab + table
