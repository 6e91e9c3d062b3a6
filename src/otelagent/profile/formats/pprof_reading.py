# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The way back of `pprof`: also reads what other tools wrote; trusts no index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import DecodeError

from otelagent.errors import FormatError
from otelagent.formats.tables import MAX_FRAMES
from otelagent.model import (
    Executable,
    FileId,
    Frame,
    FrameType,
    Function,
    Line,
    Pid,
    Process,
    Thread,
    Trace,
)
from otelagent.profile.formats import pprof as names
from otelagent.profile.formats.gzipped import unpack
from otelagent.profile.formats.pprof_proto import profile_class
from otelagent.profile.model import Profile
from otelagent.waiting import with_state

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
GZIP_MAGIC = b"\x1f\x8b"


def find(table: Mapping[int, T], index: int, what: str) -> T:
    """Look up an id.

    Raises:
        FormatError: It is not there.
    """
    try:
        return table[index]
    except KeyError as err:
        raise FormatError(f"no {what} {index}") from err


def guess_type(executable: Executable | None, lines: tuple[Line, ...]) -> FrameType:
    """Tell a frame's type from its files, which is all that pprof has."""
    if executable is not None and executable.path.startswith("[kernel"):
        return FrameType.KERNEL
    file = lines[0].function.file if lines else ""
    if executable is None and (file.endswith(".py") or file.startswith("<")):
        return FrameType.PYTHON
    return FrameType.GO if file.endswith(".go") else FrameType.NATIVE


class _Decoder:
    def __init__(self, message: Any) -> None:  # noqa: ANN401 (a class made at run time)
        self.message = message
        self.strings: list[str] = list(message.string_table)
        self.executables = {
            mapping.id: Executable(
                FileId(b""),
                self.string(mapping.filename),
                self.string(mapping.build_id),
                "",
                mapping.memory_start,
                mapping.memory_limit,
                mapping.file_offset,
            )
            for mapping in message.mapping
        }
        self.functions = {one.id: self.function(one) for one in message.function}
        self.frames = {one.id: self.frame(one) for one in message.location}
        self.traces: dict[tuple[tuple[int, ...], str, str], Trace] = {}

    def string(self, index: int) -> str:
        if not 0 <= index < len(self.strings):
            raise FormatError(f"no string {index}")
        return self.strings[index]

    def function(self, message: Any) -> Function:  # noqa: ANN401
        name, system_name = self.string(message.name), self.string(message.system_name)
        return Function(
            name,
            "" if system_name == name else system_name,
            self.string(message.filename),
            max(message.start_line, 0),
        )

    def frame(self, message: Any) -> Frame:  # noqa: ANN401
        executable = None
        if message.mapping_id:
            executable = find(self.executables, message.mapping_id, "mapping")
        lines = tuple(
            Line(
                find(self.functions, line.function_id, "function"),
                max(line.line, 0),
                max(line.column, 0),
            )
            for line in message.line
        )
        return Frame(guess_type(executable, lines), message.address, executable, lines)

    def trace(self, location_ids: tuple[int, ...], fault: str, state: str) -> Trace:
        key = (location_ids, fault, state)
        if key not in self.traces:
            if len(location_ids) > MAX_FRAMES:
                raise FormatError(f"a stack of {len(location_ids)} frames")
            trace = Trace(tuple(find(self.frames, one, "location") for one in location_ids), fault)
            self.traces[key] = with_state(trace, state) if state else trace
        return self.traces[key]

    def value_index(self) -> int:
        """Choose the samples' value: their count, else the default, else the last one."""
        types = [(self.string(one.type), self.string(one.unit)) for one in self.message.sample_type]
        if not types:
            raise FormatError("a profile without a sample type")
        default = self.string(self.message.default_sample_type)
        for index, (kind, unit) in enumerate(types):
            if (kind, unit) == ("samples", "count") or kind == default:
                return index
        return len(types) - 1

    def comments(self, prefix: str) -> dict[str, str]:
        texts = [self.string(index) for index in self.message.comment]
        pairs = [text.removeprefix(prefix).rpartition("=") for text in texts if prefix in text]
        return {name: value for name, _equals, value in pairs}

    def profile(self) -> Profile:
        message = self.message
        index = self.value_index()
        sample_type = message.sample_type[index]
        profile = Profile(
            sample_type=(self.string(sample_type.type), self.string(sample_type.unit)),
            period_type=(
                self.string(message.period_type.type),
                self.string(message.period_type.unit),
            ),
            period_ns=max(message.period, 0),
            start_unix_ns=max(message.time_nanos, 0),
            duration_ns=max(message.duration_nanos, 0),
            host=tuple(self.comments(names.HOST).items()),
            notes={
                name: int(value)
                for name, value in self.comments(names.NOTE).items()
                if value.isdecimal() and len(value) < len(str(1 << 63))
            },
        )
        for sample in message.sample:
            self.sample(profile, sample, index)
        return profile

    def sample(self, profile: Profile, sample: Any, index: int) -> None:  # noqa: ANN401
        if index >= len(sample.value):
            raise FormatError("a sample without a value")
        value = sample.value[index]
        if value < 0:
            raise FormatError("a negative value: this is a difference, not a profile")
        texts = {self.string(one.key): self.string(one.str) for one in sample.label}
        numbers = {self.string(one.key): one.num for one in sample.label}
        process = Process(Pid(numbers.get(names.PID, 0)), texts.get(names.PROCESS, ""))
        thread = Thread(numbers.get(names.THREAD_ID, 0), texts.get(names.THREAD_NAME, ""))
        state = texts.get(names.STATE, "")
        trace = self.trace(tuple(sample.location_id), texts.get(names.FAULT, ""), state)
        count = value if profile.counts_samples else 1
        if value:
            profile.add(trace, process, thread, count, value)


def decode(data: bytes) -> Profile:
    """Parse a file, gzipped or not.

    Raises:
        FormatError: It is not a pprof profile.
    """
    message = profile_class()()
    try:
        message.ParseFromString(unpack(data) if data.startswith(GZIP_MAGIC) else data)
    except DecodeError as err:
        raise FormatError("not a pprof profile") from err
    return _Decoder(message).profile()
