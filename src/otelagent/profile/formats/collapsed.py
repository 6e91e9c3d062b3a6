# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Collapsed stacks: `process;root;…;leaf count`, one line per stack, nothing else.

The format of Brendan Gregg's flame graph scripts; kernel functions end in
`_[k]`. Stacks that show alike become one line. Waits and wall-clock time are in
microseconds, as bcc's offcputime writes them.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, BinaryIO

from otelagent.errors import FormatError
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
from otelagent.profile.label import ANONYMOUS, NAMELESS, Labels, label_process, suffix
from otelagent.profile.model import Profile
from otelagent.waiting import OFF_CPU, WALL, is_waiting, read_waiting_frame

if TYPE_CHECKING:
    from otelagent.profile.label import Label

CANNOT_HOLD = (
    "times",
    "process and thread ids",
    "source lines",
    "addresses",
    "guessed frames",
    "faults",
)

NS_PER_US = 1000
_UNSAFE = re.compile(r"[;\x00-\x1f\x7f\x85\u2028\u2029]")
_UNNAMED = re.compile(r"(?P<file>.+)\+0x(?P<address>[0-9a-f]{1,16})")


def safe_name(name: str) -> str:
    """Replace what would end a frame or a line."""
    return _UNSAFE.sub(lambda found: ":" if found[0] == ";" else " ", name) or NAMELESS


def frame_name(label: Label) -> str:
    """Name one function as this format does."""
    return safe_name(label.name) + suffix(label)


def stack_lines(profile: Profile) -> Counter[str]:
    """Sum the profile's values by `process;root;…;leaf`."""
    labels = Labels()
    stacks: dict[int, str] = {}
    sums: Counter[str] = Counter()
    for trace, process, _thread, group in profile:
        stack = stacks.get(id(trace))
        if stack is None:
            names = [frame_name(label) for label, _line in labels.of_trace(trace)]
            stack = stacks[id(trace)] = ";".join(reversed(names))
        name = safe_name(label_process(process))
        sums[f"{name};{stack}" if stack else name] += group.value
    return sums


def write(profile: Profile, stream: BinaryIO) -> None:
    """Write the profile as UTF-8, lines sorted."""
    unit = NS_PER_US if profile.sample_type in (OFF_CPU, WALL) else 1
    stream.writelines(
        f"{stack} {round(value / unit)}\n".encode(errors="backslashreplace")
        for stack, value in sorted(stack_lines(profile).items())
    )


def read_frame(name: str) -> Frame:
    """Turn a name back into a frame, as far as it tells."""
    if waiting := read_waiting_frame(name):
        return waiting
    kind = FrameType.NATIVE
    if name.endswith("_[k]"):
        kind, name = FrameType.KERNEL, name.removesuffix("_[k]")
    unnamed = _UNNAMED.fullmatch(name)
    if unnamed:
        file = unnamed["file"]
        executable = None if file == ANONYMOUS else Executable(FileId(b""), file)
        return Frame(kind, int(unnamed["address"], 16), executable)
    if name == NAMELESS:
        return Frame(kind)
    return Frame(kind, lines=(Line(Function(name)),))


def read(data: bytes) -> Profile:
    """Parse a file.

    Raises:
        FormatError: A line has no count.
    """
    profile = Profile()
    frames: dict[str, Frame] = {}
    # Only \n ends a line: str.splitlines() would also cut at form feeds in names.
    for number, line in enumerate(data.decode(errors="replace").split("\n"), 1):
        stack, _space, count = line.rstrip("\r").rpartition(" ")
        if not line.strip():
            continue
        if not stack or not count.isdecimal() or len(count) > len(str(2**63)):
            raise FormatError(f"line {number} is not 'frame;frame;… count'")
        process, *names = stack.split(";")
        for name in names:
            if name not in frames:
                frames[name] = read_frame(name)
        trace = Trace(tuple(frames[name] for name in reversed(names)))
        profile.add(trace, Process(Pid(0), process), Thread(0), int(count), int(count))
    return read_times(profile)


def read_times(profile: Profile) -> Profile:
    """Take the counts for times where some are of waits: a line is one sample then."""
    waiting = sum(is_waiting(trace) for trace in profile.traces)
    if not waiting:
        return profile
    kind = OFF_CPU if waiting == len(profile.traces) else WALL
    times = Profile(sample_type=kind)
    for trace, process, thread, group in profile:
        times.add(trace, process, thread, 1, group.value * NS_PER_US)
    return times
