# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Model to OTLP profiles and back: the only home of that mapping.

One `ResourceProfiles` per process. `samples/count` profiles carry one time
stamp per sample and no values, as the protocol allows; where a time stamp is
missing, every sample of the message carries its value and no time stamps, so
that all samples of a profile have one shape.

Waits are a profile of their own, of type `off_cpu/nanoseconds`, beside the one of what ran: each
sample has the sum of its waits and, in `thread.state`, why the thread waited.

Wire format: opentelemetry-proto 1.10 (`profiles/v1development`).
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service
from opentelemetry.proto.resource.v1 import resource_pb2

from otelagent.export.dictionary import Dictionary, Value
from otelagent.model import ProfileInfo
from otelagent.waiting import OFF_CPU, WALL, is_waiting, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.proto.profiles.v1development import profiles_pb2 as pb

    from otelagent.model import Process, SampleGroup, Thread, Trace

    Entry = tuple[Trace, Process, Thread, SampleGroup]

PID = "process.pid"
EXECUTABLE_NAME = "process.executable.name"
EXECUTABLE_PATH = "process.executable.path"
START_NS = "otelagent.process.start_boottime_ns"
EXEC_ID = "otelagent.process.exec_id"
THREAD_ID = "thread.id"
THREAD_NAME = "thread.name"
THREAD_STATE = "otelagent.thread.state"
FAULT = "otelagent.trace.fault"
NOTE = "otelagent.note."
HOST_PREFIXES = ("host.", "os.")
SCOPE = "otelagent"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
"""Of the semantic conventions that the names of attributes are from."""


def process_attributes(process: Process) -> dict[str, Value]:
    """List the resource attributes of a process; what is not known is left out."""
    attributes: dict[str, Value] = {
        PID: int(process.pid),
        EXECUTABLE_NAME: process.name,
        EXECUTABLE_PATH: process.executable,
        START_NS: process.start_ns,
        EXEC_ID: process.exec_id,
    }
    return {key: value for key, value in attributes.items() if value} | dict(process.attributes)


def fill_resource(
    resource: resource_pb2.Resource, attributes: dict[str, Value], string: Callable[[str], int]
) -> None:
    """Add attributes to a resource; `string` gives the index of a text.

    Texts are in the dictionary, as the Collector sends them too: processes have most in common.
    """
    for key, value in attributes.items():
        entry = resource.attributes.add(key_strindex=string(key))
        if isinstance(value, int):
            entry.value.int_value = value
        else:
            entry.value.string_value_strindex = string(value)


def profile_ids() -> Iterator[bytes]:
    """Give ids for the profiles of a request: the same 96 bits of chance, and a number.

    16 bytes of chance in each would be 3 to 5 % of all that is sent: they cannot be compressed.
    """
    chance = os.urandom(12)
    return (chance + number.to_bytes(4) for number in itertools.count())


def window(info: ProfileInfo, entries: list[Entry]) -> tuple[int, int]:
    """Give start and duration in ns, widened so that every time stamp lies inside."""
    start = info.start_unix_ns
    end = start + info.duration_ns
    for *_keys, group in entries:
        if group.timestamps_ns:
            oldest, newest = min(group.timestamps_ns), max(group.timestamps_ns)
            start = min(start, oldest) if start else oldest
            end = max(end, newest + 1)
    return start, max(end - start, 0)


class _Encoder:
    def __init__(self, info: ProfileInfo, entries: list[Entry]) -> None:
        self.entries = entries
        self.message = service.ExportProfilesServiceRequest()
        self.dictionary = Dictionary(self.message.dictionary)
        self.start_ns, self.duration_ns = window(info, entries)
        self.info = info
        self.ids = profile_ids()
        self.machine = b""
        self.marks: dict[tuple[int, str, str, str], tuple[int, ...]] = {}
        self.has_times = all(
            len(group.timestamps_ns) == group.count
            for trace, *_keys, group in entries
            if not is_waiting(trace)
        )

    def request(self) -> service.ExportProfilesServiceRequest:
        request = self.message
        by_process: dict[Process | None, list[Entry]] = {}
        for entry in self.entries:
            by_process.setdefault(entry[1], []).append(entry)
        for process, entries in (by_process or {None: []}).items():
            resource_profiles = request.resource_profiles.add(schema_url=SCHEMA_URL)
            self.describe(resource_profiles.resource, process)
            scope_profiles = resource_profiles.scope_profiles.add(schema_url=SCHEMA_URL)
            scope_profiles.scope.name = SCOPE
            notes = self.info.notes if len(request.resource_profiles) == 1 else {}
            for info, of_kind in self.split(entries):
                self.profile(scope_profiles.profiles.add(), info, of_kind, notes)
                notes = {}
        self.dictionary.finish()
        return request

    def describe(self, resource: resource_pb2.Resource, process: Process | None) -> None:
        string = self.dictionary.string
        host: dict[str, Value] = dict(self.info.host)
        own = process_attributes(process) if process is not None else {}
        if own.keys() & host.keys():
            fill_resource(resource, host | own, string)
            return
        if not self.machine:  # the same for all: made once, and copied
            message = resource_pb2.Resource()
            fill_resource(message, host, string)
            self.machine = message.SerializeToString()
        resource.ParseFromString(self.machine)
        fill_resource(resource, own, string)

    def split(self, entries: list[Entry]) -> list[tuple[ProfileInfo, list[Entry]]]:
        """Make a profile of each type that there are samples of; at least one."""
        if self.info.sample_type != WALL:
            return [(self.info, entries)]
        kinds = split_wall(self.info, entries)
        return [kind for kind in kinds if kind[1]] or kinds[:1]

    def profile(
        self, profile: pb.Profile, info: ProfileInfo, entries: list[Entry], notes: dict[str, int]
    ) -> None:
        string = self.dictionary.string
        timed = info.sample_type[1] == "count" and self.has_times
        profile.profile_id = next(self.ids)
        profile.time_unix_nano = self.start_ns
        profile.duration_nano = self.duration_ns
        profile.sample_type.type_strindex = string(info.sample_type[0])
        profile.sample_type.unit_strindex = string(info.sample_type[1])
        profile.period_type.type_strindex = string(info.period_type[0])
        profile.period_type.unit_strindex = string(info.period_type[1])
        profile.period = info.period_ns
        profile.attribute_indices.extend(
            self.dictionary.attribute(NOTE + name, int(value)) for name, value in notes.items()
        )
        counts = info.sample_type[1] == "count"
        # Traces that look alike in all that is sent (they were walked with other maps) are one.
        rows: dict[tuple[int, tuple[int, ...]], tuple[list[int], list[int]]] = {}
        for trace, _process, thread, group in entries:
            values, times = rows.setdefault(self.row(trace, thread), ([0], []))
            values[0] += group.count if counts else group.value
            times += group.timestamps_ns if timed else ()
        for (stack, marks), (values, times) in rows.items():
            profile.samples.add(
                stack_index=stack,
                attribute_indices=marks,
                values=() if times else values,
                timestamps_unix_nano=sorted(times),
            )

    def row(self, trace: Trace, thread: Thread) -> tuple[int, tuple[int, ...]]:
        """Give the indices of a sample's stack and of its attributes."""
        state, frames = "", trace.frames
        if is_waiting(trace):
            state, frames = state_of(trace), frames[1:]
        stack = self.dictionary.stack(frames)
        key = (thread.tid, thread.name, trace.fault, state)
        marks = self.marks.get(key)
        if marks is None:
            attribute = self.dictionary.attribute
            pairs = (
                *((THREAD_ID, thread.tid), (THREAD_NAME, thread.name), (FAULT, trace.fault)),
                (THREAD_STATE, state),
            )
            marks = tuple(attribute(name, value) for name, value in pairs if value)
            self.marks[key] = marks
        return stack, marks


def split_wall(info: ProfileInfo, entries: list[Entry]) -> list[tuple[ProfileInfo, list[Entry]]]:
    """Part what ran from what waited; notes are left out."""
    span = info.start_unix_ns, info.duration_ns
    ran = ProfileInfo(ProfileInfo().sample_type, info.period_type, info.period_ns, *span)
    waited = ProfileInfo(OFF_CPU, OFF_CPU, 0, *span)
    return [
        (ran, [entry for entry in entries if not is_waiting(entry[0])]),
        (waited, [entry for entry in entries if is_waiting(entry[0])]),
    ]


def encode_profiles(
    info: ProfileInfo, entries: Iterable[Entry]
) -> service.ExportProfilesServiceRequest:
    """Make one request of all samples.

    Groups without samples are left out. `info.notes` go with the first profile
    of the request only, so that nobody adds them up twice.
    """
    return _Encoder(info, [entry for entry in entries if entry[3].count > 0]).request()
