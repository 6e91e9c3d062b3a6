# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes call frame information, and ELF files around it."""

import struct

from otelagent.formats.elf import BytesSource, ElfFile

CODE, FRAMES = 0x1000, 0x4000
X86_START = b"\x0c\x07\x08\x90\x01"  # CFA = rsp+8, return address at CFA-8
ARM_START = b"\x0c\x1f\x00"  # CFA = sp+0


def entry(body, *, dwarf64=False):
    body += bytes(-len(body) % 8)
    if dwarf64:
        return struct.pack("<IQ", 0xFFFFFFFF, len(body)) + body
    return struct.pack("<I", len(body)) + body


def cie(start=X86_START, *, augmentation=b"zR", data=b"\x1b", ra=16, align=b"\x78", **options):
    head = struct.pack("<I", 0) + b"\x01" + augmentation + b"\0\x01" + align + bytes([ra])
    return entry(head + bytes([len(data)]) + data + start, **options)


def eh_frame(*functions, head=None, dwarf64=False):
    """One CIE, then a function for each (start, size, program); pc-relative, 32 bits."""
    out = cie(dwarf64=dwarf64) if head is None else head
    for start, size, program in functions:
        id_at = len(out) + (12 if dwarf64 else 4)
        place = FRAMES + id_at + 4
        body = struct.pack("<Iii", id_at, start - place, size) + b"\0" + program
        out += entry(body, dwarf64=dwarf64)
    return out + bytes(4)


def make_elf(section, *, machine=62, has_sections=True, name=".eh_frame", code_bytes=0x2000):
    """A file with code at 0x1000 and the section at 0x4000."""
    strings = b"\0.text\0.shstrtab\0" + name.encode() + b"\0"
    eh_header = struct.pack("<BBBBi", 1, 0x1B, 0xFF, 0xFF, 0x200 - 4)
    sections_at = (FRAMES + len(section) + len(strings) + 7) & ~7
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01" + bytes(9), 3, machine, 1, 0, 64),
        *(sections_at if has_sections else 0, 0, 64, 56, 3, 64),
        *((4, 3) if has_sections else (0, 0)),
    )
    tail = 0x200 + len(section)
    segments = [
        (1, 5, CODE, CODE, 0, code_bytes, code_bytes, 0x1000),
        (1, 4, FRAMES - 0x200, FRAMES - 0x200, 0, tail, tail, 0x1000),
        (0x6474E550, 4, FRAMES - 0x200, FRAMES - 0x200, 0, 8, 8, 4),
    ]
    data = header + b"".join(struct.pack("<IIQQQQQQ", *segment) for segment in segments)
    data = data.ljust(FRAMES - 0x200, b"\0") + eh_header
    data = data.ljust(FRAMES, b"\0") + section + strings
    rows = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 1, 6, CODE, CODE, code_bytes, 0, 0, 16, 0),
        (17, 1, 2, FRAMES, FRAMES, len(section), 0, 0, 8, 0),
        (7, 3, 0, 0, FRAMES + len(section), len(strings), 0, 0, 1, 0),
    ]
    data = data.ljust(sections_at, b"\0") + b"".join(struct.pack("<IIQQQQIIQQ", *r) for r in rows)
    return ElfFile(BytesSource(data))
