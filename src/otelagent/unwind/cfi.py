# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds call frame information in an ELF file and hands it to the C core.

`.eh_frame` by its section header, else through PT_GNU_EH_FRAME (a stripped
section table), and `.debug_frame`, which may be compressed.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent._native import ffi, lib
from otelagent.errors import BadElf
from otelagent.formats.elf import PT_GNU_EH_FRAME, SHF_COMPRESSED
from otelagent.unwind.landing import add_landings
from otelagent.unwind.rows import RowBuilder, check_memory

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

RANK_EH_FRAME = 2
RANK_DEBUG_FRAME = 3

_REASONS = (
    "unknown CFA expression",
    "no CFA",
    "unknown return address expression",
    "no return address",
    "unknown frame pointer expression",
    "offset too large",
    "too many rules",
    "unknown instruction",
    "remember/restore without partner",
    "unusable CIE",
    "unusable pointer encoding",
)


@dataclass(frozen=True, slots=True)
class CfiSection:
    """A section with call frame information.

    Attributes:
        data: Its bytes; None: they are in the file, at `offset`, and the C core reads them.
        addr: Its ELF address.
        to_zero: Its size is not known: the first entry of length zero ends it.
    """

    name: str
    data: bytes | None
    addr: int
    size: int
    offset: int = 0
    is_debug_frame: bool = False
    to_zero: bool = False


def find_eh_frame(elf: ElfFile) -> CfiSection | None:
    """Read `.eh_frame`, or None if there is none.

    Raises:
        BadElf: It is there but cannot be read.
    """
    section = elf.section(".eh_frame")
    if section is not None and section.addr:
        if section.flags & SHF_COMPRESSED:
            data = elf.section_data(section)
            return CfiSection(".eh_frame", data, section.addr, len(data))
        data_or_none = _read(elf, section.offset, section.size)
        return CfiSection(".eh_frame", data_or_none, section.addr, section.size, section.offset)
    header = next((s for s in elf.segments if s.type == PT_GNU_EH_FRAME), None)
    if header is None:
        return None
    addr = _eh_frame_address(elf, header.offset, header.vaddr)
    load = next((s for s in elf.loads() if s.vaddr <= addr < s.vaddr + s.filesz), None)
    if load is None:
        raise BadElf("PT_GNU_EH_FRAME points outside of the file")
    offset, size = addr - load.vaddr + load.offset, load.vaddr + load.filesz - addr
    data_or_none = _read(elf, offset, size)
    return CfiSection("PT_GNU_EH_FRAME", data_or_none, addr, size, offset, to_zero=True)


def _read(elf: ElfFile, offset: int, size: int) -> bytes | None:
    """Read a part of the file, unless the C core can do so: None then.

    Raises:
        BadElf: It lies outside of the file.
    """
    elf.read(offset + size, 0)
    elf.read(offset, min(size, 4))  # opens it again if it was given back
    return elf.read(offset, size) if elf.descriptor < 0 else None


def _eh_frame_address(elf: ElfFile, offset: int, vaddr: int) -> int:
    """Read where `.eh_frame` is from the header that PT_GNU_EH_FRAME names (LSB Core)."""
    raw = elf.read(offset, 12)
    version, encoding = raw[0], raw[1]
    formats = {0x0B: "<i", 0x03: "<I", 0x0C: "<q", 0x04: "<Q", 0x00: "<Q"}
    if version != 1 or encoding & 0x0F not in formats:
        raise BadElf(f"PT_GNU_EH_FRAME has version {version}, encoding {encoding:#x}")
    (value,) = struct.unpack_from(formats[encoding & 0x0F], raw, 4)
    base = {0x00: 0, 0x10: vaddr + 4, 0x30: vaddr}.get(encoding & 0x70)
    if base is None:
        raise BadElf(f"PT_GNU_EH_FRAME has encoding {encoding:#x}")
    return int(base + value)


def find_debug_frame(elf: ElfFile) -> CfiSection | None:
    """Read `.debug_frame`, or None if there is none."""
    section = elf.section(".debug_frame")
    if section is None:
        return None
    data = elf.section_data(section)
    return CfiSection(".debug_frame", data, 0, len(data), is_debug_frame=True)


def add_cfi(builder: RowBuilder, elf: ElfFile, section: CfiSection, where: str = "") -> str:
    """Add the rows of a section. Returns one line about it, for people."""
    text, got = elf.section(".text"), elf.section(".got.plt") or elf.section(".got")
    data = ffi.NULL if section.data is None else ffi.from_buffer("uint8_t[]", section.data)
    described = ffi.new(
        "struct oa_cfi_section *",
        {
            "data": data,
            "size": section.size,
            "fd": elf.descriptor,
            "offset": section.offset,
            "addr": section.addr,
            "text": text.addr if text else 0,
            "got": got.addr if got else 0,
            "machine": elf.machine,
            "debug_frame": section.is_debug_frame,
            "to_zero": section.to_zero,
            "rank": RANK_DEBUG_FRAME if section.is_debug_frame else RANK_EH_FRAME,
        },
    )
    stats = ffi.new("struct oa_cfi_stats *")
    status = lib.oa_cfi_parse(builder.raw, described, stats)
    if status == -errno.EINVAL:
        raise BadElf(f"machine {elf.machine} is not supported")
    if status == -errno.EIO:
        raise BadElf("the file was cut while it was read")
    check_memory(status)
    line = f"{section.name}{where}: {stats.fdes} functions"
    problems = [
        f"{count} rows: {reason}"
        for reason, count in zip(_REASONS, stats.reasons, strict=True)
        if count
    ]
    if stats.bad_fdes:
        problems.append(f"{stats.bad_fdes} entries not readable")
    if stats.outside:
        problems.append(f"{stats.outside} entries outside of the code")
    if stats.end < section.size and not section.to_zero:
        problems.append(f"damaged at offset {stats.end:#x}")
    functions = [(each.start, each.end) for each in stats.eh_return[0 : stats.eh_returns]]
    if landings := add_landings(builder, elf, functions):
        problems.append(landings)
    return "; ".join([line, *problems])
