# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names of the Python frames of one process (`protocols.PythonNamer`).

A raw frame has the address of a code object and a check of it (see
`ebpf/python.h`); all else is read from the process's memory when the frame is
seen first. By then the object may be gone, or be another: the check tells, and
such a frame gets a reason instead of a name. The process may also lie: every
size is capped, and nothing is followed more than one step.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent.errors import MemoryFault, ProcessGone
from otelagent.formats.code_object import find_line
from otelagent.model import FileId, Frame, FrameType, Function, Line

if TYPE_CHECKING:
    from otelagent.interpreters.python.layout import Layout
    from otelagent.protocols import Memory

MAX_TEXT_CHARS = 4_096
MAX_TABLE_BYTES = 1 << 20
MAX_CODE_OBJECTS = 16_384
_LOW_48 = (1 << 48) - 1
_STATE_BYTES = 40  # PyASCIIObject up to `state`
_ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


@dataclass(frozen=True, slots=True)
class RawFrame:
    """The two words of a Python frame, taken apart; `lasti` in the interpreter's own unit."""

    code: int
    check: int
    lasti: int

    @classmethod
    def decode(cls, file_or_object: int, addr: int) -> RawFrame:
        """Take the words of a `struct oa_frame` apart."""
        lasti = (addr >> 32 & 0xFFFF) << 16 | file_or_object >> 48 & 0xFFFF
        signed = lasti - (1 << 32) if lasti >> 31 else lasti
        return cls(file_or_object & _LOW_48, addr & 0xFFFFFFFF, signed)

    def encode(self) -> tuple[int, int]:
        """Put the words together again, without kind and flags."""
        lasti = self.lasti & 0xFFFFFFFF
        return self.code | (lasti & 0xFFFF) << 48, self.check | (lasti >> 16) << 32


@dataclass(frozen=True, slots=True)
class CodeObject:
    """What is kept of a code object; `problem` says why there is no name."""

    function: Function | None
    table: bytes = b""
    problem: str = ""


def source_file_id(filename: str) -> FileId:
    """Make a stable FileID for a source file, the same in every process: from its name."""
    return FileId(hashlib.sha256(b"python source\0" + filename.encode()).digest()[:16])


def code_check(layout: Layout, block: bytes) -> int:
    """Compute the check of a code object from its 32 bytes at `code_block`, as `py_check` does."""

    def field(offset: int) -> int:
        return int(struct.unpack_from("<I", block, offset - layout.code_block)[0])

    total = field(layout.code_firstlineno) + (field(layout.code_flags) << 10)
    total += (field(layout.code_kwonly) << 18) + (field(layout.code_argcount) << 25)
    return total & 0xFFFFFFFF


class Codes:
    """Code objects that were read, by (address, check): the ones used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], CodeObject] = OrderedDict()

    def find(self, raw: RawFrame) -> CodeObject | None:
        """Find the one of a frame."""
        key = (raw.code, raw.check)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, raw: RawFrame, code: CodeObject) -> None:
        """Keep one; the one that was not used for longest leaves."""
        self._kept[raw.code, raw.check] = code
        if len(self._kept) > MAX_CODE_OBJECTS:
            self._kept.popitem(last=False)


@dataclass(slots=True)
class Family:
    """Processes that began as forks of one another: their memory was equal once.

    Where one ended before its code was read, a relative has most likely the same object
    at the same address; the check that each frame carries tells if not.

    Attributes:
        codes: What was read in any of them.
        elder: Names frames from the memory of one that others were forked from.
    """

    codes: Codes = field(default_factory=Codes)
    elder: PythonFrames | None = None

    def find(self, raw: RawFrame) -> CodeObject | None:
        """Find a code object that a member could not give."""
        found = self.codes.find(raw)
        if found is None and self.elder is not None:
            read = self.elder.read(raw)
            found = read if read.function is not None else None
        return found


class PythonFrames:
    """Names frames of one process. Used by one thread at a time."""

    def __init__(self, layout: Layout, memory: Memory, family: Family | None = None) -> None:
        self.layout = layout
        self._memory = memory
        self.family = family
        self._codes = Codes()

    def name(self, file_or_object: int, addr: int) -> Frame:
        """Turn the two words of a raw frame into a frame; it has a `reason` if it has no name."""
        raw = RawFrame.decode(file_or_object, addr)
        code = self._find(raw)
        if code.function is None:
            return Frame(FrameType.PYTHON, reason=code.problem)
        at = self.layout
        offset = raw.lasti * at.lasti_scale
        line = find_line(at.lines, code.table, code.function.start_line, offset)
        return Frame(FrameType.PYTHON, lines=(Line(code.function, line),), reason=code.problem)

    def read_ahead(self, code: int, block: bytes) -> None:
        """Read a code object that frames will name, now that it is there.

        Args:
            code: Its address.
            block: Its 32 bytes at `code_block`, when it was sampled.
        """
        self._find(RawFrame(code & _LOW_48, code_check(self.layout, block), 0))

    def _find(self, raw: RawFrame) -> CodeObject:
        found = self._codes.find(raw)
        if found is not None:
            return found
        found = self.read(raw)
        if self.family is not None:
            if found.function is not None:
                self.family.codes.keep(raw, found)
            else:
                found = self.family.find(raw) or found
        if found.function is not None:  # a fault may pass; what was read does not change
            self._codes.keep(raw, found)
        return found

    def read(self, raw: RawFrame) -> CodeObject:
        """Read the code object of a frame from the process, as it is now."""
        try:
            return self._read_code(raw)
        except ProcessGone:
            return CodeObject(None, problem="the process ended before its code was read")
        except MemoryFault:
            return CodeObject(None, problem="the code object is no longer in memory")

    def _read_code(self, raw: RawFrame) -> CodeObject:
        at = self.layout
        block = self._memory.read(raw.code + at.code_block, 32)
        if code_check(at, block) != raw.check:
            return CodeObject(None, problem="the code object was replaced by another")
        (first_line,) = struct.unpack_from("<i", block, at.code_firstlineno - at.code_block)
        name = self._text(raw.code + (at.code_qualname or at.code_name))
        if name is None:
            return CodeObject(None, problem="the code object has no readable name")
        filename = self._text(raw.code + at.code_filename) or ""
        function = Function(name, file=filename, start_line=max(first_line, 0))
        try:
            table, problem = self._table(raw.code + at.code_lines), ""
        except MemoryFault:
            table, problem = b"", "the line table could not be read"
        return CodeObject(function, table, problem)

    def _pointer(self, addr: int) -> int:
        return int.from_bytes(self._memory.read(addr, 8), "little")

    def _text(self, field: int) -> str | None:
        """Read the string that a field points to; None if it is no string. Cut at the cap."""
        at = self._pointer(field)
        head = self._memory.read(at, _STATE_BYTES)
        length, state = struct.unpack_from("<q8xI", head, 16)
        kind, compact, ascii_only = state >> 2 & 7, state >> 5 & 1, state >> 6 & 1
        if kind not in _ENCODINGS or not compact or length < 0:
            return None
        start = at + (self.layout.ascii_bytes if ascii_only else self.layout.compact_bytes)
        data = self._memory.read(start, min(length, MAX_TEXT_CHARS) * kind)
        return data.decode(_ENCODINGS[kind], "replace")

    def _table(self, field: int) -> bytes:
        """Read the bytes object that a field points to: a size, a hash, then the bytes."""
        at = self._pointer(field)
        size = int.from_bytes(self._memory.read(at + 16, 8), "little")
        if size > MAX_TABLE_BYTES:
            raise MemoryFault(at, size)
        return self._memory.read(at + 32, size)
