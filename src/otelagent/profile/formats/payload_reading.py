# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The way back of `payload`: tables to a profile. No index is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from otelagent.errors import FormatError
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
    Thread,
    Trace,
)
from otelagent.profile.formats.payload import VERSION, Payload
from otelagent.profile.model import Profile

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

MAX_VALUE = 1 << 62


def address(value: int) -> int:
    """Check an address.

    Raises:
        FormatError: It does not fit into 64 bits.
    """
    if not 0 <= value < 1 << 64:
        raise FormatError(f"address {value}")
    return value


class _Unpacker:
    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        text = self.string
        self.executables = [
            Executable(
                FileId(bytes.fromhex(file_id)), text(path), text(gnu), text(go), *map(address, span)
            )
            for file_id, path, gnu, go, *span in payload.executables
        ]
        self.functions = [
            Function(text(name), text(system_name), text(file), start_line)
            for name, system_name, file, start_line in payload.functions
        ]
        self.frames = [self.frame(number) for number in range(len(payload.frames))]
        self.traces: dict[tuple[int, int], Trace] = {}

    def string(self, index: int) -> str:
        return pick(self.payload.strings, index)

    def frame(self, number: int) -> Frame:
        row = self.payload.frames[number]
        lines = [
            Line(pick(self.functions, function), line, column)
            for function, line, column in row.lines
        ]
        return Frame(
            FrameType(pick(self.payload.kinds, row.kind)),
            address(row.address),
            None if row.executable < 0 else pick(self.executables, row.executable),
            tuple(lines),
            row.guessed,
            self.string(row.reason),
        )

    def trace(self, node: int, fault: int) -> Trace:
        key = (node, fault)
        if key not in self.traces:
            frames = []
            while node >= 0:
                frames.append(pick(self.frames, pick(self.payload.frames_of, node)))
                parent = pick(self.payload.parents, node)
                if parent >= node or len(frames) > MAX_FRAMES:
                    raise FormatError("a stack does not end")
                node = parent
            self.traces[key] = Trace(tuple(frames), self.string(fault))
        return self.traces[key]

    def profile(self) -> Profile:
        info = self.payload.info
        profile = Profile(
            sample_type=info.sample_type,
            period_type=info.period_type,
            period_ns=info.period_ns,
            start_unix_ns=info.start_unix_ns,
            duration_ns=info.duration_ns,
            host=tuple(info.host),
            notes=info.notes,
        )
        processes = [
            Process(Pid(pid), self.string(name), self.string(path), start, exec_id, tuple(pairs))
            for pid, name, path, start, exec_id, pairs, _shown in self.payload.processes
        ]
        threads = [Thread(tid, self.string(name)) for tid, name, _shown in self.payload.threads]
        rows = self.payload.samples
        columns = (rows.node, rows.fault, rows.process, rows.thread, rows.count, rows.value)
        for node, fault, process, thread, count, value in zip(*columns, strict=True):
            if not (0 <= count < MAX_VALUE and 0 <= value < MAX_VALUE):
                raise FormatError(f"{count} samples of value {value}")
            if count:
                trace = self.trace(node, fault)
                profile.add(trace, pick(processes, process), pick(threads, thread), count, value)
        return profile


def unpack_payload(data: bytes) -> Profile:
    """Parse the JSON of a payload.

    Raises:
        FormatError: It is none, or another version's.
    """
    try:
        payload = msgspec.json.decode(data, type=Payload)
        if payload.version != VERSION:
            raise FormatError(f"version {payload.version} of the page is not known")
        return _Unpacker(payload).profile()
    except (msgspec.DecodeError, RecursionError, ValueError) as err:
        raise FormatError(f"not a profile page: {err}") from err
