# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of an OTLP profile: each entry once, the zero entry first.

Every table is keyed by the indices and numbers that its entries consist of, so
two things that look alike on the wire are one entry, and nothing else is merged.
Tables grow only by what a sample needs: no entry is without a user.

Entries are in order of use, but for locations, which are in order of file and address, and
functions, in the order of locations: what compresses requests finds more alike in neighbours
(2 to 4 % less to send). So these and stacks are written at the end (`finish`).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from opentelemetry.proto.profiles.v1development import profiles_pb2 as pb

if TYPE_CHECKING:
    from otelagent.model import Executable, Frame, Function

Value = str | int | bool
Location = tuple[int, int, tuple[tuple[int, int, int], ...], tuple[int, ...]]
"""Mapping, address, lines (function, line, column), attributes."""

FRAME_TYPE = "profile.frame.type"
BUILD_ID_GNU = "process.executable.build_id.gnu"
BUILD_ID_GO = "process.executable.build_id.go"
FILE_ID = "process.executable.build_id.htlhash"
GUESSED = "otelagent.frame.guessed"
REASON = "otelagent.frame.unresolved_reason"


def wire_text(text: str) -> str:
    """Make a string that UTF-8 can carry; file names may hold any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


class Dictionary:
    """Fills a `ProfilesDictionary`; the frames it is given must stay alive as long as it."""

    def __init__(self, message: pb.ProfilesDictionary) -> None:
        self.message = message
        self.message.string_table.append("")
        self.message.link_table.add()
        self.message.mapping_table.add()
        self.message.attribute_table.add()
        self._strings: dict[str, int] = {"": 0}
        self._attributes: dict[tuple[int, type, Value], int] = {}
        self._kinds: dict[tuple[str, bool, str], tuple[int, ...]] = {}
        self._pairs: dict[tuple[str, type, Value], int] = {}
        self._mappings: dict[tuple[int, ...], int] = {(0, 0, 0, 0): 0}
        self._executables: dict[Executable, int] = {}
        self._wires: dict[str, str] = {}
        self._functions: dict[tuple[str, str, str, int], int] = {("", "", "", 0): 0}
        self._locations: dict[Location, int] = {}
        self._stacks: dict[tuple[int, ...], int] = {(): 0}
        self._seen: dict[int, int] = {}

    def string(self, text: str) -> int:
        """Give the index of a string."""
        index = self._strings.get(text)
        if index is None:
            wire = wire_text(text)
            index = self._strings.get(wire)
            if index is None:
                index = self._strings[wire] = len(self.message.string_table)
                self.message.string_table.append(wire)
            self._strings[text] = index
        return index

    def attribute(self, key: str, value: Value) -> int:
        """Give the index of an attribute."""
        pair = (key, type(value), value)
        index = self._pairs.get(pair)
        if index is None:
            index = self._pairs[pair] = self._new_attribute(key, value)
        return index

    def _new_attribute(self, key: str, value: Value) -> int:
        wire = wire_text(value) if isinstance(value, str) else value
        identity = (self.string(key), type(wire), wire)
        index = self._attributes.get(identity)
        if index is None:
            index = self._attributes[identity] = len(self.message.attribute_table)
            entry = self.message.attribute_table.add(key_strindex=identity[0])
            if isinstance(wire, bool):
                entry.value.bool_value = wire
            elif isinstance(wire, int):
                entry.value.int_value = wire
            else:
                entry.value.string_value = wire
        return index

    def mapping(self, executable: Executable | None) -> int:
        """Give the index of an executable; 0 for none."""
        if executable is None:
            return 0
        index = self._executables.get(executable)
        if index is None:
            index = self._executables[executable] = self._new_mapping(executable)
        return index

    def _new_mapping(self, executable: Executable) -> int:
        pairs = (
            (BUILD_ID_GNU, executable.build_id),
            (BUILD_ID_GO, executable.go_build_id),
            # All zeros stand for "not known" too.
            (FILE_ID, executable.file_id.hex() if any(executable.file_id) else ""),
        )
        attributes = [self.attribute(key, value) for key, value in pairs if value]
        path = self.string(executable.path)
        start, end, offset = executable.text_start, executable.text_end, executable.text_offset
        if end <= start:  # no segment with code in it, or an end that is not known
            start = end = 0
        identity = (start, end, offset, path, *attributes)
        index = self._mappings.get(identity)
        if index is None:
            index = self._mappings[identity] = len(self.message.mapping_table)
            self.message.mapping_table.add(
                memory_start=start,
                memory_limit=end,
                file_offset=offset,
                filename_strindex=path,
                attribute_indices=attributes,
            )
        return index

    def _wire(self, text: str) -> str:
        wire = self._wires.get(text)
        if wire is None:
            wire = self._wires[text] = wire_text(text)
        return wire

    def _function(self, function: Function) -> int:
        """Number a function, in order of use."""
        wire = self._wire
        name, system_name = wire(function.name), wire(function.system_name)
        identity = (name, system_name, wire(function.file), function.start_line)
        return self._functions.setdefault(identity, len(self._functions))

    def location(self, frame: Frame) -> int:
        """Number a frame, from 1: in order of use, which `finish` changes."""
        number = self._seen.get(id(frame))
        if number is not None:
            return number
        lines = tuple(
            (self._function(line.function), line.line, line.column) for line in frame.lines
        )
        kind = frame.type, frame.guessed, frame.reason
        attributes = self._kinds.get(kind)
        if attributes is None:
            attributes = self._kinds[kind] = self._attributes_of(frame)
        identity = (self.mapping(frame.executable), frame.address, lines, attributes)
        number = self._locations.setdefault(identity, len(self._locations) + 1)
        self._seen[id(frame)] = number
        return number

    def _attributes_of(self, frame: Frame) -> tuple[int, ...]:
        attributes = [self.attribute(FRAME_TYPE, frame.type.value)]
        if frame.guessed:
            attributes.append(self.attribute(GUESSED, True))
        if frame.reason:
            attributes.append(self.attribute(REASON, frame.reason))
        return tuple(attributes)

    def stack(self, frames: tuple[Frame, ...]) -> int:
        """Give the index of a stack, newest frame first."""
        seen = self._seen
        identity = tuple([seen.get(id(frame)) or self.location(frame) for frame in frames])
        return self._stacks.setdefault(identity, len(self._stacks))

    def finish(self) -> None:
        """Write functions, locations and stacks; nothing may be added after that."""
        table = self.message.location_table
        table.add()
        index_of = [0] * (len(self._locations) + 1)
        order = sorted(self._locations)
        functions = self._functions_in(order)
        for index, identity in enumerate(order, 1):
            mapping, address, lines, attributes = identity
            index_of[self._locations[identity]] = index
            table.add(
                mapping_index=mapping,
                address=address,
                lines=[pb.Line(function_index=functions[f], line=n, column=c) for f, n, c in lines],
                attribute_indices=attributes,
            )
        for numbers in self._stacks:
            self.message.stack_table.add(location_indices=[index_of[each] for each in numbers])

    def _functions_in(self, order: list[Location]) -> dict[int, int]:
        """Write the functions as locations come to them; gives the index of each number."""
        string, table = self.string, self.message.function_table
        identities = list(self._functions)
        index_of: dict[int, int] = {}
        used = (number for _, _, lines, _ in order for number, _, _ in lines)
        for number in chain([0], used):
            if number not in index_of:
                index_of[number] = len(table)
                name, system_name, file, start_line = identities[number]
                table.add(
                    name_strindex=string(name),
                    system_name_strindex=string(system_name),
                    filename_strindex=string(file),
                    start_line=start_line,
                )
        return index_of
