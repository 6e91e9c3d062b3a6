# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which files make code at run time that always keeps frame pointers.

V8 does: each frame of its compilers begins with `push %rbp; mov %rsp,%rbp`, since
V8 itself walks its stacks by them (src/execution/frames.h, "Frame layout").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.formats.elf import EM_X86_64

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

MIN_CODE_BYTES = 8 << 20
"""V8 with its built-in functions is larger."""
MAX_NAMES_BYTES = 64 << 20
_MARKS = (b"v8dbg_", b"v8_Default_embedded_blob_", b"N2v88internal")


def has_v8(elf: ElfFile) -> bool:
    """Tell if V8 is in a file: its symbols' names, which the dynamic table of most builds has.

    Raises:
        BadElf: The names lie outside of the file.
    """
    if elf.machine != EM_X86_64:
        return False
    if sum(segment.filesz for segment in elf.executable_loads()) < MIN_CODE_BYTES:
        return False
    for name in (".dynstr", ".strtab"):
        section = elf.section(name)
        if section is None or section.size > MAX_NAMES_BYTES:
            continue
        names = elf.section_data(section)
        if any(mark in names for mark in _MARKS):
            return True
    return False
