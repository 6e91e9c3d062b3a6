# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""jitdump: a log of code that a JIT compiler made, moved, and which lines it has.

The format is `tools/perf/Documentation/jitdump-specification.txt` of Linux: a
header, then records with id, size and time. Code bytes are skipped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from otelagent.errors import FormatError
from otelagent.formats.perf_map import MAX_ENTRIES, MAX_NAME_BYTES, CodeMap

MAGIC = 0x4A695444
HEADER_BYTES = 40
MAX_LINES = 2_000_000
_LOAD, _MOVE, _DEBUG_INFO = 0, 1, 2
_PREFIX = struct.Struct("<IIQ")
_LOADED = struct.Struct("<IIQQQQ")
_MOVED = struct.Struct("<IIQQQQQ")
_DEBUG = struct.Struct("<QQ")
_DEBUG_ENTRY = struct.Struct("<QII")
_MAX_PER_FUNCTION = 100_000


@dataclass(slots=True)
class JitCode:
    """A function: where it was made, and (offset, file, line) in ascending order."""

    name: str
    lines: list[tuple[int, str, int]] = field(default_factory=list)

    def line_at(self, offset: int) -> tuple[str, int]:
        """Find file and line of the code at `offset`; ("", 0) if there is none."""
        found = ("", 0)
        for start, file, line in self.lines:
            if start > offset:
                break
            found = (file, line)
        return found


def parse_header(data: bytes) -> int:
    """Check the header and give its length in bytes.

    Raises:
        FormatError: It is not a jitdump of this byte order and version 1.
    """
    if len(data) < HEADER_BYTES:
        raise FormatError("a jitdump is shorter than its header")
    magic, version, size = struct.unpack_from("<III", data)
    if magic != MAGIC or version != 1 or not HEADER_BYTES <= size <= 4096:
        raise FormatError("not a jitdump that can be read")
    return int(size)


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at, at + MAX_NAME_BYTES)
    return data[at : end if end >= 0 else at + MAX_NAME_BYTES].decode("utf-8", "replace")


class JitDump:
    """The state that the records read so far describe. Not to be shared between threads."""

    def __init__(self) -> None:
        self._map = CodeMap()
        self._codes: list[JitCode] = []
        self._pending: dict[int, list[tuple[int, str, int]]] = {}
        self._lines = 0

    def feed(self, data: bytes) -> int:
        """Apply the whole records in `data`; give the bytes used.

        Raises:
            FormatError: A record's size cannot be.
        """
        at = 0
        while at + _PREFIX.size <= len(data):
            kind, size, _ = _PREFIX.unpack_from(data, at)
            if size < _PREFIX.size:
                raise FormatError("a jitdump record is shorter than its header")
            if at + size > len(data):
                break
            self._apply(kind, data[at + _PREFIX.size : at + size])
            at += size
        return at

    def _apply(self, kind: int, body: bytes) -> None:
        if kind == _LOAD and len(body) >= _LOADED.size:
            _, _, _, addr, size, _ = _LOADED.unpack_from(body)
            code = JitCode(_text(body, _LOADED.size), self._pending.pop(addr, []))
            if len(self._codes) < MAX_ENTRIES and self._map.add(addr, size, len(self._codes)):
                self._codes.append(code)
        elif kind == _MOVE and len(body) >= _MOVED.size:
            _, _, _, old, new, size, _ = _MOVED.unpack_from(body)
            found = self._map.find(old)
            if found is not None:
                self._map.add(new, size, found[1])
        elif kind == _DEBUG_INFO and len(body) >= _DEBUG.size:
            self._remember_lines(body)

    def _remember_lines(self, body: bytes) -> None:
        addr, count = _DEBUG.unpack_from(body)
        lines: list[tuple[int, str, int]] = []
        at, file = _DEBUG.size, ""
        for _ in range(min(count, _MAX_PER_FUNCTION)):
            if at + _DEBUG_ENTRY.size >= len(body) or self._lines >= MAX_LINES:
                break
            where, line, _ = _DEBUG_ENTRY.unpack_from(body, at)
            at += _DEBUG_ENTRY.size
            if body[at : at + 2] != b"\xff\0":  # that means: as before
                file = _text(body, at)
            end = body.find(b"\0", at)
            at = end + 1 if end >= 0 else len(body)
            lines.append((max(where - addr, 0), file, line))
            self._lines += 1
        if len(self._pending) < 1024:
            self._pending[addr] = sorted(lines)

    def find(self, addr: int) -> tuple[str, str, int] | None:
        """Find the code that holds `addr`: name, file, line."""
        found = self._map.find(addr)
        if found is None:
            return None
        code = self._codes[found[1]]
        return (code.name, *code.line_at(addr - found[0]))
