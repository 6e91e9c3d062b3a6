# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From an ELF file to map-ready unwind rows: chooses and merges the sources.

Call frame information comes first; Go's function table and special cases are
laid over or under it by rank (see `RowBuilder`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import EM_AARCH64, EM_X86_64, PF_X, PT_GNU_EH_FRAME
from otelagent.unwind.cfi import add_cfi, find_debug_frame, find_eh_frame
from otelagent.unwind.code import add_code, find_undescribed
from otelagent.unwind.go import add_go, find_go_table
from otelagent.unwind.landing import code_ranges as landing_code_ranges
from otelagent.unwind.rows import RowBuilder, RowTable
from otelagent.unwind.separate import separate_files, separate_key
from otelagent.unwind.special import MAX_CODE_BYTES, add_special

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

__all__ = [
    "RowTable",
    "extract",
    "extract_both",
    "extract_described",
    "used_elsewhere",
    "used_ranges",
]

_USED_SECTIONS = (".eh_frame", ".debug_frame", ".gopclntab", ".gnu_debugdata", ".plt", ".plt.sec")
_ENTRY_BYTES = 256
MIN_INFORMATION_BYTES = 16 << 10
MIN_FUNCTIONS = 100
"""A file with fewer functions described is taken for one that has no information of its own."""


def extract(elf: ElfFile) -> RowTable:
    """Extract the unwind rows of a file: what is described, and the rest by its code.

    Raises:
        BadElf: The headers lie, or it is not for x86-64 or arm64.
    """
    return extract_both(elf)[1]


def extract_both(elf: ElfFile) -> tuple[RowTable, RowTable]:
    """Extract what is described in a file, and that with the rows of the other code.

    What cannot be read is left out and named in `sources`; a file without any
    information gives an empty table.

    Raises:
        BadElf: The headers lie, or it is not for x86-64 or arm64.
    """
    described, sources, builder = extract_described(elf)
    undescribed = find_undescribed(elf, described)
    if not undescribed:
        return described, described
    return described, builder.finish([*sources, add_code(builder, elf, undescribed)])


def extract_described(elf: ElfFile) -> tuple[RowTable, list[str], RowBuilder]:
    """Extract what is described in a file: the rows, their sources, and what made them.

    Raises:
        BadElf: The headers lie, or it is not for x86-64 or arm64.
    """
    if elf.machine not in (EM_X86_64, EM_AARCH64):
        raise BadElf(f"machine {elf.machine} is not supported")
    builder = RowBuilder([(s.vaddr, s.vaddr + s.filesz) for s in elf.executable_loads()])
    sources: list[str] = []
    has_go = _add_go(builder, elf, sources)
    _add_sections(builder, elf, sources, "", with_debug_frame=not has_go)
    if builder.fragments < MIN_FUNCTIONS and not has_go:
        _add_separate(builder, elf, sources)
    sources += add_special(builder, elf, covered=builder.fragments > MIN_FUNCTIONS)
    return builder.finish(sources), sources, builder


def _add_sections(
    builder: RowBuilder, elf: ElfFile, sources: list[str], where: str, *, with_debug_frame: bool
) -> None:
    """Add `.eh_frame` and, unless Go's own table said the same, `.debug_frame`."""
    for find in (find_eh_frame, find_debug_frame) if with_debug_frame else (find_eh_frame,):
        try:
            section = find(elf)
            if section is not None:
                sources.append(add_cfi(builder, elf, section, where))
        except BadElf as err:
            sources.append(f"{find.__name__.removeprefix('find_')}{where}: {err}")


def _add_separate(builder: RowBuilder, elf: ElfFile, sources: list[str]) -> None:
    try:
        for name, found in separate_files(elf):
            _add_sections(builder, found, sources, f" of {name}", with_debug_frame=True)
    except BadElf as err:
        sources.append(str(err))


def _add_go(builder: RowBuilder, elf: ElfFile, sources: list[str]) -> bool:
    try:
        table = find_go_table(elf)
        if table is None:
            return False
        sources.append(add_go(builder, elf, table))
    except BadElf as err:
        sources.append(str(err))
        return False
    return True


def used_elsewhere(elf: ElfFile) -> bytes:
    """Describe what `extract` may use outside of the file; empty if nothing."""
    sections = [elf.section(name) for name in _USED_SECTIONS]
    if sum(section.size for section in sections if section) >= MIN_INFORMATION_BYTES:
        return b""
    return separate_key(elf)


def used_ranges(elf: ElfFile) -> list[tuple[int, int]]:
    """List the (file offset, size) of everything that `extract` may use, headers excepted."""
    ranges = [
        (section.offset, section.size)
        for name in _USED_SECTIONS
        if (section := elf.section(name)) is not None
    ]
    if elf.section(".eh_frame") is None:
        ranges += [(s.offset, s.filesz) for s in elf.segments if s.type == PT_GNU_EH_FRAME]
        ranges += [(s.offset, s.filesz) for s in elf.loads() if not s.flags & PF_X][:1]
    if sum(size for _, size in ranges) < MIN_INFORMATION_BYTES:  # then code itself is searched
        ranges += [(s.offset, min(s.filesz, MAX_CODE_BYTES)) for s in elf.executable_loads()]
    ranges += landing_code_ranges(elf)
    entry = elf.offset_of(elf.entry)
    if entry is not None:
        ranges.append((entry, _ENTRY_BYTES))
    return [(offset, min(size, elf.source.size)) for offset, size in ranges]
