# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Why a thread is not on a CPU, as the newest frame of its stack: `[off-CPU: sleeping]`.

A stack without such a frame is one that ran. So every format that has frames holds the
difference; those with attributes of samples (OTLP, pprof) have the state there instead.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from otelagent.model import Frame, FrameType, Function, Line, Trace

if TYPE_CHECKING:
    from otelagent.model import ProfileInfo

OFF_CPU = ("off_cpu", "nanoseconds")
WALL = ("wall", "nanoseconds")
"""Types of samples: of waits only; of all time that threads had, whether they ran or waited."""
UNKNOWN = "waiting"
_PREFIX, _SUFFIX = "[off-CPU: ", "]"


@cache
def waiting_frame(state: str) -> Frame:
    """Make the frame of a state."""
    name = f"{_PREFIX}{state}{_SUFFIX}"
    return Frame(FrameType.OFF_CPU, lines=(Line(Function(name)),))


def read_waiting_frame(name: str) -> Frame | None:
    """Turn the name of such a frame back into one; None if it is another's."""
    if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
        return None
    return waiting_frame(name.removeprefix(_PREFIX).removesuffix(_SUFFIX))


def state_of(trace: Trace) -> str:
    """Tell why the thread waits; empty if it runs."""
    if not is_waiting(trace):
        return ""
    lines = trace.frames[0].lines
    name = lines[0].function.name if lines else ""
    return name.removeprefix(_PREFIX).removesuffix(_SUFFIX) or UNKNOWN


def is_waiting(trace: Trace) -> bool:
    """Tell whether the thread waits."""
    return bool(trace.frames) and trace.frames[0].type is FrameType.OFF_CPU


def without_state(trace: Trace) -> Trace:
    """Leave the frame out that tells the state."""
    return Trace(trace.frames[1:], trace.fault) if is_waiting(trace) else trace


def with_state(trace: Trace, state: str) -> Trace:
    """Put the frame back."""
    return Trace((waiting_frame(state), *trace.frames), trace.fault)


def name_of(info: ProfileInfo) -> str:
    """Name the kind of profile in titles."""
    return {OFF_CPU: "off-CPU profile", WALL: "wall-clock profile"}.get(
        info.sample_type, "CPU profile"
    )
