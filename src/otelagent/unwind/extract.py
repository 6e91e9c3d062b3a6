# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From an ELF file to map-ready unwind rows: chooses and merges the sources.

Call frame information comes first; Go's function table and special cases are
laid over or under it by rank (see `RowBuilder`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import EM_AARCH64, EM_X86_64
from otelagent.unwind.cfi import add_cfi, find_debug_frame, find_eh_frame
from otelagent.unwind.rows import RowBuilder, RowTable

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

__all__ = ["RowTable", "extract"]


def extract(elf: ElfFile) -> RowTable:
    """Extract the unwind rows of a file.

    What cannot be read is left out and named in `sources`; a file without any
    information gives an empty table.

    Raises:
        BadElf: The headers lie, or it is not for x86-64 or arm64.
    """
    if elf.machine not in (EM_X86_64, EM_AARCH64):
        raise BadElf(f"machine {elf.machine} is not supported")
    builder = RowBuilder([(s.vaddr, s.vaddr + s.filesz) for s in elf.executable_loads()])
    sources = []
    for find in (find_eh_frame, find_debug_frame):
        try:
            section = find(elf)
            if section is not None:
                sources.append(add_cfi(builder, elf, section))
        except BadElf as err:
            sources.append(f"{find.__name__.removeprefix('find_')}: {err}")
    return builder.finish(sources)
