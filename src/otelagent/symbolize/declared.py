# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lines where functions of compiled code are declared, by the names that DWARF gives them.

The face of `src/native/declared.c`. Symcaches do not tell declarations, so that the child
that makes one reads them, too, and keeps them in a file beside it:

    magic and version, number of entries (u64 each), hashes (u64, ascending), lines (u32)
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from otelagent._native import ffi, lib
from otelagent.errors import BadElf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otelagent.formats.elf import ElfFile

MAGIC = 0x0100_5354_5241_544F
_HEADER = struct.Struct("=QQ")
_SECTIONS = ("info", "abbrev", "str", "line_str", "str_offsets")
_logger = logging.getLogger(__name__)


class Declared:
    """Start lines of the functions of one file."""

    def __init__(
        self, hashes: Sequence[int], lines: Sequence[int], mapped: mmap.mmap | None = None
    ) -> None:
        self._hashes = hashes
        self._lines = lines
        self._mapped = mapped

    @classmethod
    def open(cls, fd: int) -> Declared | None:
        """Map the file of a descriptor, which stays the caller's; None if it is none of ours."""
        size = os.fstat(fd).st_size
        if size < _HEADER.size:
            return None
        mapped = mmap.mmap(fd, size, prot=mmap.PROT_READ)
        view = memoryview(mapped)
        magic, count = _HEADER.unpack_from(view)
        if magic != MAGIC or size != _HEADER.size + 12 * count:
            return None
        end = _HEADER.size + 8 * count
        return cls(view[_HEADER.size : end].cast("Q"), view[end:].cast("I"), mapped)

    def rest(self) -> None:
        """Let nothing of a mapped file be resident; what is looked up comes back."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def find(self, name: str) -> int:
        """Find the line where a function, by its symbol's name, is declared; 0 if not known.

        A clone (`.constprop.0`) has the line of what it was made of.
        """
        return self._find(name) or self._find(name.partition(".")[0])

    def _find(self, name: str) -> int:
        raw = name.encode()
        wanted = lib.oa_declared_hash(raw, len(raw))
        at = bisect_left(self._hashes, wanted)
        return self._lines[at] if at < len(self._hashes) and self._hashes[at] == wanted else 0


def read_declared(elf: ElfFile) -> bytes:
    """Read the declarations of a file, as `Declared.open` wants them; of none if it cannot be."""
    sections = {}
    try:
        for name in _SECTIONS:
            section = elf.section(f".debug_{name}")
            sections[name] = elf.section_data(section) if section else b""
    except BadElf as err:
        _logger.debug("no declarations error=%s", err)
        return read_sections({})
    return read_sections(sections)


def read_sections(sections: Mapping[str, bytes]) -> bytes:
    """Read the declarations in sections: `info` is .debug_info, and so on."""
    dwarf = ffi.new("struct oa_dwarf *")
    lent = []  # as long as C looks at it
    for name, data in sections.items():
        lent.append(ffi.from_buffer("u8[]", data))
        setattr(dwarf, name, lent[-1])
        setattr(dwarf, f"{name}_bytes", len(data))
    out = ffi.new("struct oa_declared **")
    count = max(lib.oa_declared_read(dwarf, out), 0)
    found = ffi.gc(out[0], lib.oa_declared_free)
    pairs = array("Q", ffi.buffer(found, 16 * count)[:] if count else b"")
    lines = array("I", pairs[1::2])
    return _HEADER.pack(MAGIC, count) + pairs[::2].tobytes() + lines.tobytes()
