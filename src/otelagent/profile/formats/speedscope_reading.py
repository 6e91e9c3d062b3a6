# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The way back of `speedscope`; reads sampled and evented profiles of other tools too."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated

import msgspec

from otelagent.errors import FormatError
from otelagent.formats.tables import MAX_FRAMES
from otelagent.model import Frame, FrameType, Function, Line, Pid, Process, Thread, Trace
from otelagent.profile.formats.collapsed import read_frame
from otelagent.profile.formats.speedscope import EXTRA
from otelagent.profile.model import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator
UNITS = {"nanoseconds": 1, "microseconds": 10**3, "milliseconds": 10**6, "seconds": 10**9}
Number = int | float
Whole = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Bounded = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]


class _Frame(msgspec.Struct):
    name: str
    file: str | None = None
    line: Bounded | None = None
    col: Bounded | None = None


class _Shared(msgspec.Struct):
    frames: list[_Frame]


class _Event(msgspec.Struct):
    type: str
    frame: int
    at: Number


class _Profile(msgspec.Struct):
    type: str = "sampled"
    name: str = ""
    unit: str = "none"
    samples: list[list[int]] = []
    weights: list[Number] = []
    events: list[_Event] = []


class _Extra(msgspec.Struct):
    """What `speedscope.encode` adds; not there in files of other tools."""

    sample_type: tuple[str, str]
    period_type: tuple[str, str]
    period_ns: Whole
    scale: Whole
    start_unix_ns: Whole
    duration_ns: Whole
    host: dict[str, str]
    notes: dict[str, Whole]
    threads: list[tuple[Whole, str, Whole, str]]


class _File(msgspec.Struct):
    shared: _Shared
    profiles: list[_Profile]
    extra: _Extra | None = msgspec.field(default=None, name=EXTRA)


def read_speedscope_frame(frame: _Frame) -> Frame:
    """Make a frame of a name, a file and a line."""
    made = read_frame(frame.name)
    if not made.lines:
        return made
    file = frame.file or ""
    is_python = file.endswith(".py") and made.type is FrameType.NATIVE
    function = Function(made.lines[0].function.name, "", file)
    lines = (Line(function, max(frame.line or 0, 0), max(frame.col or 0, 0)),)
    return Frame(FrameType.PYTHON if is_python else made.type, lines=lines)


def closed_spans(profile: _Profile) -> Iterator[tuple[list[int], Number]]:
    """Turn open and close events into (stack, weight).

    Raises:
        FormatError: Events do not nest or go back in time.
    """
    stack: list[int] = []
    for event, following in itertools.pairwise(profile.events):
        if event.type == "O":
            stack.append(event.frame)
        elif not stack or stack.pop() != event.frame:
            raise FormatError(f"frame {event.frame} is closed but not the open one")
        if following.at < event.at or len(stack) > MAX_FRAMES:
            raise FormatError("events do not nest in the order of time")
        if stack and following.at > event.at:
            yield list(stack), following.at - event.at


def stacks(profile: _Profile) -> Iterator[tuple[list[int], Number]]:
    """Give (stack of frame numbers, root first; weight) of either kind of profile.

    Raises:
        FormatError: There is not one weight for each sample.
    """
    if profile.type == "evented":
        return closed_spans(profile)
    if len(profile.samples) != len(profile.weights):
        raise FormatError(f"{len(profile.samples)} samples and {len(profile.weights)} weights")
    return zip(profile.samples, profile.weights, strict=True)


def new_profile(file: _File) -> Profile:
    """Make the empty profile with what holds for all samples."""
    extra = file.extra
    if extra is None:
        unit = file.profiles[0].unit if file.profiles else "none"
        if unit in UNITS:
            return Profile(sample_type=("time", "nanoseconds"))
        return Profile(sample_type=("samples", "count" if unit == "none" else unit))
    return Profile(
        sample_type=extra.sample_type,
        period_type=extra.period_type,
        period_ns=extra.period_ns,
        start_unix_ns=extra.start_unix_ns,
        duration_ns=extra.duration_ns,
        host=tuple(extra.host.items()),
        notes=extra.notes,
    )


def decode(data: bytes) -> Profile:
    """Parse a file.

    Raises:
        FormatError: It is not speedscope's format.
    """
    try:
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError(f"not speedscope's JSON: {err}") from err
    frames = [read_speedscope_frame(frame) for frame in file.shared.frames]
    extra = file.extra
    profile = new_profile(file)
    if extra is not None and len(extra.threads) != len(file.profiles):
        raise FormatError("the list of threads is not as long as that of profiles")
    traces: dict[tuple[int, ...], Trace] = {}
    for number, one in enumerate(file.profiles):
        process, thread = Process(Pid(0), one.name), Thread(0)
        if extra is not None:
            pid, process_name, tid, thread_name = extra.threads[number]
            process, thread = Process(Pid(pid), process_name), Thread(tid, thread_name)
        factor = UNITS.get(one.unit, 1)
        for stack, weight in stacks(one):
            key = tuple(stack)
            if key not in traces:
                traces[key] = make_trace(frames, stack)
            value = int(weight * factor) if extra is None else int(weight) // max(extra.scale, 1)
            if not 0 <= value < 1 << 62:
                raise FormatError(f"a sample of weight {weight}")
            if value:
                count = value if profile.counts_samples else 1
                profile.add(traces[key], process, thread, count, value)
    return profile


def make_trace(frames: list[Frame], stack: list[int]) -> Trace:
    """Look up frames, root first, and put the newest first.

    Raises:
        FormatError: There is no such frame, or there are too many.
    """
    if len(stack) > MAX_FRAMES or any(not 0 <= index < len(frames) for index in stack):
        raise FormatError("a stack names a frame that is not there, or too many")
    return Trace(tuple(frames[index] for index in reversed(stack)))
