# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The profile inside our HTML page: tables of JSON types, stacks as a tree of frames.

It has what the viewer draws (labels) and what the profile consists of (frames,
executables, functions), so that `report` can read a page back. Time stamps
are left out. A difference has a second value per sample, `base`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from otelagent.model import FrameType
from otelagent.profile.figures import figure
from otelagent.profile.label import Labels, label_process, label_thread
from otelagent.profile.top import as_function

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from otelagent.model import Executable, Frame, Function, Process, SampleGroup, Thread, Trace
    from otelagent.profile.label import Label
    from otelagent.profile.model import Profile

VERSION = 1
KINDS = tuple(FrameType)


Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Index = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 31) - 1)]


class Info(msgspec.Struct):
    """As `ProfileInfo`."""

    sample_type: tuple[str, str]
    period_type: tuple[str, str]
    period_ns: Number
    start_unix_ns: Number
    duration_ns: Number
    host: list[tuple[str, str]]
    notes: dict[str, Number]


class FrameRow(msgspec.Struct, array_like=True):
    """A frame: `lines` are (function, line, column); `labels` (label, line), outermost first."""

    kind: Number
    address: int
    executable: Index
    lines: list[tuple[Number, Number, Number]]
    guessed: bool
    reason: Number
    labels: list[tuple[Number, Number]]


class Samples(msgspec.Struct):
    """Columns, one entry per group of samples; `base` is empty but in a difference."""

    node: list[Index] = []
    fault: list[Number] = []
    process: list[Number] = []
    thread: list[Number] = []
    count: list[Number] = []
    value: list[Number] = []
    base: list[Number] = []


class Payload(msgspec.Struct):
    """All of it. Strings are indices into `strings`; -1 is none.

    A node is a frame under its caller: `parents` and `frames_of` are columns,
    a parent comes before its children. `groups` has for each label the one that
    stands for it in lists: itself, or that of all its file's unnamed addresses.
    """

    version: Number
    info: Info
    figures: dict[str, Any]
    kinds: list[str]
    strings: list[str]
    executables: list[tuple[str, Number, Number, Number, int, int, int]]
    functions: list[tuple[Number, Number, Number, Number]]
    labels: list[tuple[Number, Number, Number, Number, bool]]
    frames: list[FrameRow]
    parents: list[Index]
    frames_of: list[Number]
    processes: list[tuple[Number, Number, Number, Number, Number, list[tuple[str, str]], str]]
    threads: list[tuple[Number, Number, str]]
    samples: Samples
    base_total: Number = 0
    base_name: str = ""
    groups: list[Number] = []


class Table:
    """Numbers things in the order in which they come."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def find(self, key: Hashable) -> int | None:
        """Give the number of what was added before."""
        return self._numbers.get(key)

    def add(self, key: Hashable, row: object) -> int:
        """Add a row; its key must be new."""
        number = self._numbers[key] = len(self.rows)
        self.rows.append(row)
        return number


def whole_label(label: Label) -> Hashable:
    """Tell labels apart by all but how their frames were found."""
    return label.name, label.type, label.module, label.file, label.resolved


class Packer:
    """Fills a payload's tables; labels with the same `label_key` are one function."""

    def __init__(self, label_key: Callable[[Label], Hashable] | None = None) -> None:
        self.label_key = label_key or whole_label
        self.labels_of = Labels()
        self.strings, self.executables, self.functions = Table(), Table(), Table()
        self.labels, self.frames, self.nodes = Table(), Table(), Table()
        self.groups: list[int] = []
        self.processes, self.threads = Table(), Table()
        self.samples = Samples()
        self._frame_numbers: dict[int, int] = {}
        self._trace_nodes: dict[int, int] = {}

    def string(self, text: str) -> int:
        """Number a string."""
        number = self.strings.find(text)
        if number is None:
            safe = text.encode(errors="backslashreplace").decode()
            number = self.strings.add(text, safe)
        return number

    def _executable(self, executable: Executable | None) -> int:
        if executable is None:
            return -1
        number = self.executables.find(executable)
        if number is not None:
            return number
        texts = (executable.path, executable.build_id, executable.go_build_id)
        span = (executable.text_start, executable.text_end, executable.text_offset)
        row = (executable.file_id.hex(), *map(self.string, texts), *span)
        return self.executables.add(executable, row)

    def _function(self, function: Function) -> int:
        number = self.functions.find(function)
        if number is not None:
            return number
        texts = (function.name, function.system_name, function.file)
        return self.functions.add(function, (*map(self.string, texts), function.start_line))

    def _label(self, label: Label) -> int:
        key = self.label_key(label)
        number = self.labels.find(key)
        if number is not None:
            return number
        name, kind = self.string(label.name), KINDS.index(label.type)
        row = (name, kind, self.string(label.module), self.string(label.file), label.resolved)
        number = self.labels.add(key, row)
        self.groups.append(number)
        joined = as_function(label, join_unnamed=True)
        if joined.name != label.name:
            self.groups[number] = self._label(joined)
        return number

    def _frame(self, frame: Frame) -> int:
        number = self._frame_numbers.get(id(frame))
        if number is None:
            number = self.frames.find(frame)
        if number is None:
            lines = [(self._function(one.function), one.line, one.column) for one in frame.lines]
            shown = reversed(self.labels_of.of_frame(frame))
            row = FrameRow(
                KINDS.index(frame.type),
                frame.address,
                self._executable(frame.executable),
                lines,
                frame.guessed,
                self.string(frame.reason),
                [(self._label(label), line) for label, line in shown],
            )
            number = self.frames.add(frame, row)
        self._frame_numbers[id(frame)] = number
        return number

    def _node(self, trace: Trace) -> int:
        node = self._trace_nodes.get(id(trace))
        if node is not None:
            return node
        node = -1
        for frame in reversed(trace.frames):
            key = (node, self._frame(frame))
            found = self.nodes.find(key)
            node = self.nodes.add(key, key) if found is None else found
        self._trace_nodes[id(trace)] = node
        return node

    def _process(self, process: Process) -> int:
        number = self.processes.find(process)
        if number is not None:
            return number
        name, path = self.string(process.name), self.string(process.executable)
        numbers = (process.start_ns, process.exec_id)
        pairs = [list(pair) for pair in process.attributes]
        row = (int(process.pid), name, path, *numbers, pairs, label_process(process))
        return self.processes.add(process, row)

    def _thread(self, thread: Thread) -> int:
        number = self.threads.find(thread)
        if number is not None:
            return number
        row = (thread.tid, self.string(thread.name), label_thread(thread))
        return self.threads.add(thread, row)

    def add(self, entries: Iterable[tuple[Trace, Process, Thread, SampleGroup]]) -> None:
        """Add samples."""
        samples = self.samples
        for trace, process, thread, group in entries:
            samples.node.append(self._node(trace))
            samples.fault.append(self.string(trace.fault))
            samples.process.append(self._process(process))
            samples.thread.append(self._thread(thread))
            samples.count.append(group.count)
            samples.value.append(group.value)

    def payload(self, profile: Profile) -> Payload:
        """Give the tables with what holds for all samples of the profile."""
        info = Info(
            profile.sample_type,
            profile.period_type,
            profile.period_ns,
            profile.start_unix_ns,
            profile.duration_ns,
            list(profile.host),
            profile.notes,
        )
        return Payload(
            version=VERSION,
            info=info,
            figures=asdict(figure(profile)),
            kinds=[kind.value for kind in KINDS],
            strings=self.strings.rows,
            executables=self.executables.rows,
            functions=self.functions.rows,
            labels=self.labels.rows,
            groups=self.groups,
            frames=self.frames.rows,
            parents=[parent for parent, _frame in self.nodes.rows],
            frames_of=[frame for _parent, frame in self.nodes.rows],
            processes=self.processes.rows,
            threads=self.threads.rows,
            samples=self.samples,
        )


def pack(profile: Profile) -> Payload:
    """Put a profile into tables."""
    packer = Packer()
    packer.add(profile)
    return packer.payload(profile)
