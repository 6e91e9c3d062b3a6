# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Naming the frames of a finished profile again, by symbols found later.

`report --debug-dir` uses it: frames that came with a FileID or build id and an
address only are shown to a `Renamer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from otelagent.model import Trace
from otelagent.profile.model import Profile

if TYPE_CHECKING:
    from otelagent.model import Frame


class Renamer(Protocol):
    """Names frames from symbol files."""

    def rename(self, frame: Frame) -> Frame:
        """Give the frame with lines, or the same frame if nothing is known of it."""
        ...


def rename_frames(profile: Profile, renamer: Renamer) -> Profile:
    """Make a profile in which frames without a name have been looked up again.

    Each different frame is asked for once. Frames that have lines, or lie in no
    executable, stay as they are.
    """
    renamed: dict[Frame, Frame] = {}
    by_identity: dict[int, Frame] = {}

    def name(frame: Frame) -> Frame:
        known = by_identity.get(id(frame))
        if known is None:
            known = renamed.get(frame)
            if known is None:
                wanted = not frame.lines and frame.executable is not None
                known = renamed[frame] = renamer.rename(frame) if wanted else frame
            by_identity[id(frame)] = known
        return known

    traces = {
        id(trace): Trace(tuple(name(frame) for frame in trace.frames), trace.fault)
        for trace in profile.traces
    }
    return Profile.of(
        profile,
        ((traces[id(trace)], process, thread, group) for trace, process, thread, group in profile),
    )
