# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""OTLP profiles to model: the way back of `otlp_profiles`.

Reads what other profilers wrote too. Nothing in the message is trusted: an
index that is out of range makes the file a bad one.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, TypeVar

from otelagent.errors import FormatError
from otelagent.export import dictionary as keys
from otelagent.export import otlp_profiles as names
from otelagent.formats.tables import MAX_FRAMES, pick
from otelagent.model import (
    Executable,
    FileId,
    Frame,
    FrameType,
    Function,
    Line,
    Pid,
    Process,
    ProfileInfo,
    SampleGroup,
    Thread,
    Trace,
)
from otelagent.waiting import OFF_CPU, UNKNOWN, WALL, with_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service
    from opentelemetry.proto.common.v1 import common_pb2
    from opentelemetry.proto.profiles.v1development import profiles_pb2 as pb

    Entry = tuple[Trace, Process, Thread, SampleGroup]

T = TypeVar("T")
MAX_SAMPLES = 2**62


class _Decoder:
    """Turns the messages of one request into model objects, each table entry once."""

    def __init__(self, request: service.ExportProfilesServiceRequest) -> None:
        self.request = request
        self.tables = request.dictionary
        self._executables: dict[int, Executable | None] = {0: None}
        self._functions: dict[int, Function] = {}
        self._frames: dict[int, Frame] = {}
        self._traces: dict[tuple[int, str, str], Trace] = {}

    def string(self, index: int) -> str:
        return pick(self.tables.string_table, index)

    def value(self, value: common_pb2.AnyValue) -> keys.Value:
        kind = value.WhichOneof("value")
        if kind == "string_value":
            return value.string_value
        if kind == "int_value":
            return value.int_value
        if kind == "bool_value":
            return value.bool_value
        if kind == "string_value_strindex":
            return self.string(value.string_value_strindex)
        return "" if kind is None else str(getattr(value, kind))

    def attributes(self, indices: Iterable[int]) -> dict[str, keys.Value]:
        entries = [pick(self.tables.attribute_table, index) for index in indices]
        return {self.string(entry.key_strindex): self.value(entry.value) for entry in entries}

    def executable(self, index: int) -> Executable | None:
        if index not in self._executables:
            mapping = pick(self.tables.mapping_table, index)
            attributes = self.attributes(mapping.attribute_indices)
            self._executables[index] = Executable(
                read_file_id(str(attributes.get(keys.FILE_ID, ""))),
                self.string(mapping.filename_strindex),
                str(attributes.get(keys.BUILD_ID_GNU, "")),
                str(attributes.get(keys.BUILD_ID_GO, "")),
                mapping.memory_start,
                mapping.memory_limit,
                mapping.file_offset,
            )
        return self._executables[index]

    def function(self, index: int) -> Function:
        if index not in self._functions:
            function = pick(self.tables.function_table, index)
            self._functions[index] = Function(
                self.string(function.name_strindex),
                self.string(function.system_name_strindex),
                self.string(function.filename_strindex),
                max(function.start_line, 0),
            )
        return self._functions[index]

    def frame(self, index: int) -> Frame:
        if index not in self._frames:
            location = pick(self.tables.location_table, index)
            attributes = self.attributes(location.attribute_indices)
            lines = [
                Line(self.function(line.function_index), max(line.line, 0), max(line.column, 0))
                for line in location.lines
            ]
            self._frames[index] = Frame(
                read_frame_type(str(attributes.get(keys.FRAME_TYPE, ""))),
                location.address,
                self.executable(location.mapping_index),
                tuple(lines),
                attributes.get(keys.GUESSED) is True,
                str(attributes.get(keys.REASON, "")),
            )
        return self._frames[index]

    def trace(self, stack_index: int, fault: str, state: str = "") -> Trace:
        key = (stack_index, fault, state)
        if key not in self._traces:
            stack = pick(self.tables.stack_table, stack_index)
            if len(stack.location_indices) > MAX_FRAMES:
                raise FormatError(f"a stack of {len(stack.location_indices)} frames")
            trace = Trace(tuple(self.frame(index) for index in stack.location_indices), fault)
            self._traces[key] = with_state(trace, state) if state else trace
        return self._traces[key]

    def entry(self, sample: pb.Sample, process: Process, info: ProfileInfo) -> Entry:
        counts = info.sample_type[1] == "count"
        attributes = self.attributes(sample.attribute_indices)
        thread_id = attributes.get(names.THREAD_ID, 0)
        thread = Thread(
            thread_id if isinstance(thread_id, int) else 0,
            str(attributes.get(names.THREAD_NAME, "")),
        )
        times = array("Q", sample.timestamps_unix_nano)
        value = sum(sample.values) if sample.values else len(times)
        if not 0 <= value <= MAX_SAMPLES:
            raise FormatError(f"a sample has the value {value}")
        count = value if counts else max(len(times), 1)
        if len(times) != count:
            del times[:]
        state = str(attributes.get(names.THREAD_STATE, ""))
        if info.sample_type == OFF_CPU:
            state = state or UNKNOWN
        trace = self.trace(sample.stack_index, str(attributes.get(names.FAULT, "")), state)
        return trace, process, thread, SampleGroup(count, value, times)


def read_file_id(text: str) -> FileId:
    """Parse a FileID in hex; what is none gives an empty one."""
    try:
        return FileId(bytes.fromhex(text))
    except ValueError:
        return FileId(b"")


def read_frame_type(text: str) -> FrameType:
    """Parse `profile.frame.type`; runtimes that we have no name for are shown as jitted code."""
    try:
        return FrameType(text)
    except ValueError:
        return FrameType.JIT if text else FrameType.NATIVE


def read_resource(
    decoder: _Decoder, attributes: Iterable[common_pb2.KeyValue]
) -> tuple[Process, tuple[tuple[str, str], ...]]:
    """Split resource attributes into the process and the host."""
    found = {
        entry.key or decoder.string(entry.key_strindex): decoder.value(entry.value)
        for entry in attributes
    }
    host = {key: value for key, value in found.items() if key.startswith(names.HOST_PREFIXES)}

    def number(key: str) -> int:
        value = found.pop(key, 0)
        return value if isinstance(value, int) else 0

    pid = Pid(number(names.PID))
    start_ns, exec_id = number(names.START_NS), number(names.EXEC_ID)
    name = str(found.pop(names.EXECUTABLE_NAME, ""))
    path = str(found.pop(names.EXECUTABLE_PATH, ""))
    rest = tuple((key, str(value)) for key, value in found.items() if key not in host)
    process = Process(pid, name, path, start_ns, exec_id, rest)
    return process, tuple((key, str(value)) for key, value in host.items())


def read_info(decoder: _Decoder, profile: pb.Profile) -> ProfileInfo:
    """Read what holds for all samples of one profile message."""
    attributes = decoder.attributes(profile.attribute_indices)

    def pair(value_type: pb.ValueType) -> tuple[str, str]:
        return decoder.string(value_type.type_strindex), decoder.string(value_type.unit_strindex)

    return ProfileInfo(
        sample_type=pair(profile.sample_type),
        period_type=pair(profile.period_type),
        period_ns=profile.period,
        start_unix_ns=profile.time_unix_nano,
        duration_ns=profile.duration_nano,
        notes={
            key.removeprefix(names.NOTE): value
            for key, value in attributes.items()
            if key.startswith(names.NOTE) and isinstance(value, int)
        },
    )


def decode_profiles(
    request: service.ExportProfilesServiceRequest,
) -> tuple[ProfileInfo, list[Entry]]:
    """Read the samples of a request.

    A request may hold profiles of several sample types, which cannot be added
    up: those of the first one are read, preferably `samples/count`; how many
    profiles were left out is noted as `profiles of another type`. Samples of what
    ran and of what waited are both time, and are read as one of type `wall`.

    Raises:
        FormatError: An index points nowhere, or a number makes no sense.
    """
    decoder = _Decoder(request)
    found: list[tuple[ProfileInfo, Process, pb.Profile]] = []
    for resource_profiles in request.resource_profiles:
        process, host = read_resource(decoder, resource_profiles.resource.attributes)
        for scope_profiles in resource_profiles.scope_profiles:
            for profile in scope_profiles.profiles:
                info = read_info(decoder, profile)
                info.host = host
                found.append((info, process, profile))
    if not found:
        return ProfileInfo(), []
    chosen = min(found, key=lambda one: one[0].sample_type != ("samples", "count"))[0].sample_type
    types = {one[0].sample_type for one in found}
    is_wall = OFF_CPU in types and is_timed(found)
    wanted = {OFF_CPU, ("samples", "count")} if is_wall else {chosen}
    same = [one for one in found if one[0].sample_type in wanted]
    entries = [
        as_time(decoder.entry(sample, process, info), info, is_wall=is_wall)
        for info, process, profile in same
        for sample in profile.samples
    ]
    # The first one's period is that of what ran, if anything did.
    same.sort(key=lambda one: one[0].sample_type == OFF_CPU)
    info = join_infos([one[0] for one in same])
    if is_wall:
        info.sample_type = WALL
    if len(same) < len(found):
        info.notes["profiles of another type"] = len(found) - len(same)
    return info, entries


def is_timed(found: list[tuple[ProfileInfo, Process, pb.Profile]]) -> bool:
    """Tell whether there are samples of what ran, and each stands for some time."""
    periods = {
        (info.period_type[1], bool(info.period_ns))
        for info, *_rest in found
        if info.sample_type == ("samples", "count")
    }
    return periods == {("nanoseconds", True)}


def as_time(entry: Entry, info: ProfileInfo, *, is_wall: bool) -> Entry:
    """Give samples of what ran the value of their time, beside waits."""
    trace, process, thread, group = entry
    if not is_wall or info.sample_type == OFF_CPU:
        return entry
    value = group.count * info.period_ns
    return trace, process, thread, SampleGroup(group.count, value, group.timestamps_ns)


def join_infos(infos: list[ProfileInfo]) -> ProfileInfo:
    """Make one of many: from the earliest start to the latest end, notes added up."""
    joined = infos[0]
    starts = [info.start_unix_ns for info in infos if info.start_unix_ns]
    end = max(info.start_unix_ns + info.duration_ns for info in infos)
    joined.start_unix_ns = min(starts, default=0)
    joined.duration_ns = end - joined.start_unix_ns
    for info in infos[1:]:
        for name, value in info.notes.items():
            joined.notes[name] = joined.notes.get(name, 0) + value
    return joined
