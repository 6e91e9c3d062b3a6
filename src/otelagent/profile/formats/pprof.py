# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""pprof files (`profile.proto`, gzipped): what `go tool pprof` reads.

A CPU profile has two values per sample, `samples/count` and `cpu/nanoseconds`; one of waits has
`off_cpu/nanoseconds`, and one of both has `cpu`, `off_cpu` and their sum `wall`. Why a thread
waits is the label `thread.state`.
Frames without a name have no line, so that pprof itself may name them.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, BinaryIO

from otelagent.export.dictionary import wire_text
from otelagent.model import FrameType
from otelagent.profile.formats.pprof_proto import profile_class
from otelagent.profile.label import base_name
from otelagent.waiting import OFF_CPU, WALL, state_of

if TYPE_CHECKING:
    from otelagent.model import Executable, Frame, Function, Process, SampleGroup, Thread, Trace
    from otelagent.profile.model import Profile

CANNOT_HOLD = (
    "times of single samples",
    "guessed frames",
    "reasons of unnamed frames",
    "FileIDs and Go build ids",
    "paths of processes",
)
PID, PROCESS = "pid", "process"
THREAD_ID, THREAD_NAME = "thread.id", "thread.name"
FAULT = "otelagent.fault"
STATE = "thread.state"
NOTE = "otelagent.note."
HOST = "otelagent.host."


def main_executable(profile: Profile) -> Executable | None:
    """Find the busiest process's own file; else any file that is not the kernel's."""
    values: dict[tuple[str, str], int] = {}
    for _trace, process, _thread, group in profile:
        key = (process.executable, process.name)
        values[key] = values.get(key, 0) + group.value
    path, name = max(values, key=lambda key: values[key], default=("", ""))
    other = None
    for trace in profile.traces:
        for frame in trace.frames:
            executable = frame.executable
            if executable is None or frame.type is FrameType.KERNEL:
                continue
            # A process's name has 15 bytes; pprof files that are read know no more.
            if path == executable.path or (not path and is_named(executable, name)):
                return executable
            other = other or executable
    return other


def is_named(executable: Executable, name: str) -> bool:
    """Tell whether a process of that name may run the file."""
    return base_name(executable.path)[:15] == name


class _Encoder:
    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.message = profile_class()()
        self.strings: dict[str, int] = {}
        self.functions: dict[Function, int] = {}
        self.mappings: dict[Executable, int] = {}
        self.locations: dict[Frame, int] = {}
        self.seen: dict[int, int] = {}
        self.string("")

    def string(self, text: str) -> int:
        text = wire_text(text)
        if text not in self.strings:
            self.strings[text] = len(self.strings)
            self.message.string_table.append(text)
        return self.strings[text]

    def function(self, function: Function) -> int:
        if function not in self.functions:
            self.functions[function] = len(self.functions) + 1
            self.message.function.add(
                id=self.functions[function],
                name=self.string(function.name),
                system_name=self.string(function.system_name or function.name),
                filename=self.string(function.file),
                start_line=function.start_line,
            )
        return self.functions[function]

    def mapping(self, executable: Executable | None) -> int:
        if executable is None:
            return 0
        if executable not in self.mappings:
            self.mappings[executable] = len(self.mappings) + 1
            self.message.mapping.add(
                id=self.mappings[executable],
                memory_start=executable.text_start,
                memory_limit=executable.text_end,
                file_offset=executable.text_offset,
                filename=self.string(executable.path),
                build_id=self.string(executable.build_id),
            )
        return self.mappings[executable]

    def location(self, frame: Frame) -> int:
        known = self.seen.get(id(frame)) or self.locations.get(frame)
        if known is None:
            known = self.locations[frame] = len(self.locations) + 1
            location = self.message.location.add(
                id=known, mapping_id=self.mapping(frame.executable), address=frame.address
            )
            for line in frame.lines:
                location.line.add(
                    function_id=self.function(line.function), line=line.line, column=line.column
                )
            if location.mapping_id and frame.lines:
                self.describe_mapping(frame)
        self.seen[id(frame)] = known
        return known

    def describe_mapping(self, frame: Frame) -> None:
        """Say what the mapping's locations have, as pprof wants to know before it names others."""
        mapping = self.message.mapping[self.mapping(frame.executable) - 1]
        mapping.has_functions = True
        mapping.has_filenames |= any(line.function.file for line in frame.lines)
        mapping.has_line_numbers |= any(line.line for line in frame.lines)
        mapping.has_inline_frames |= len(frame.lines) > 1

    def sample(self, trace: Trace, process: Process, thread: Thread, group: SampleGroup) -> None:
        values = [group.value]
        state = state_of(trace)
        if self.profile.sample_type == WALL:
            values = [0 if state else group.value, group.value if state else 0, group.value]
        elif self.has_cpu_time():
            values.append(group.count * self.profile.period_ns)
        frames = trace.frames[1:] if state else trace.frames
        sample = self.message.sample.add(
            location_id=[self.location(frame) for frame in frames], value=values
        )
        for key, number in ((PID, int(process.pid)), (THREAD_ID, thread.tid)):
            if number:
                sample.label.add(key=self.string(key), num=number)
        for key, text in (
            (PROCESS, process.name),
            (THREAD_NAME, thread.name),
            (FAULT, trace.fault),
            (STATE, state),
        ):
            if text:
                sample.label.add(key=self.string(key), str=self.string(text))

    def has_cpu_time(self) -> bool:
        return self.profile.counts_samples and self.profile.period_ns > 0

    def value_type(self, message: Any, names: tuple[str, str]) -> None:  # noqa: ANN401
        message.type, message.unit = self.string(names[0]), self.string(names[1])

    def encode(self) -> bytes:
        profile, message = self.profile, self.message
        if profile.sample_type == WALL:
            self.value_type(message.sample_type.add(), profile.period_type)
            self.value_type(message.sample_type.add(), OFF_CPU)
        self.value_type(message.sample_type.add(), profile.sample_type)
        if self.has_cpu_time():
            self.value_type(message.sample_type.add(), profile.period_type)
        self.value_type(message.period_type, profile.period_type)
        message.period = profile.period_ns
        message.time_nanos = profile.start_unix_ns
        message.duration_nanos = profile.duration_ns
        notes = [f"{NOTE}{name}={value}" for name, value in profile.notes.items()]
        host = [f"{HOST}{name}={value}" for name, value in profile.host]
        message.comment.extend(self.string(text) for text in (*host, *notes))
        # pprof takes the first mapping for the program and names the profile after it.
        self.mapping(main_executable(profile))
        for entry in profile:
            self.sample(*entry)
        encoded: bytes = message.SerializeToString()
        return encoded


def write(profile: Profile, stream: BinaryIO) -> None:
    """Write the gzipped message."""
    # No time in the gzip header: the same profile gives the same bytes.
    stream.write(gzip.compress(_Encoder(profile).encode(), compresslevel=6, mtime=0))


def read(data: bytes) -> Profile:
    """Parse a file, gzipped or not.

    Raises:
        FormatError: It is not a pprof profile.
    """
    from otelagent.profile.formats.pprof_reading import decode  # noqa: PLC0415

    return decode(data)
