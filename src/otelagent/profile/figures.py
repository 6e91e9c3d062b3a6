# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a profile amounts to, in a few numbers: for last lines, headers and summaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent import metrics

if TYPE_CHECKING:
    from otelagent.model import Frame
    from otelagent.profile.model import Profile

LOST = (
    "lost.sample",
    "lost.trace",
    "lost.deferred",
    "lost.wait",
    "lost.end",
    "lost.internal",
    "lost samples",
)
"""Notes that count lost samples, besides the counters of user space."""
DROPPED = tuple(metric.name for metric in metrics.LOST_SAMPLES)


@dataclass(slots=True)
class Figures:
    """Numbers of samples unless the name says otherwise.

    Attributes:
        complete: Their stack was walked to the thread's first frame.
        guessed: Their stack has a frame found by the frame pointer.
        unresolved: Their stack has a frame without a name.
        lost: The sum of the notes that count lost samples.
        faults: Samples by why their stack ends early.
    """

    samples: int = 0
    complete: int = 0
    guessed: int = 0
    unresolved: int = 0
    lost: int = 0
    traces: int = 0
    processes: int = 0
    threads: int = 0
    addresses: int = 0
    unnamed_addresses: int = 0
    faults: dict[str, int] = field(default_factory=dict)


def figure(profile: Profile) -> Figures:
    """Count."""
    figures = Figures(traces=len(profile.traces))
    figures.lost = sum(profile.notes.get(name, 0) for name in (*LOST, *DROPPED))
    # By identity first: hashing a frame covers all its lines.
    by_identity = {id(frame): frame for trace in profile.traces for frame in trace.frames}
    frames: set[Frame] = set(by_identity.values())
    addressed = [frame for frame in frames if frame.address]
    figures.addresses = len(addressed)
    figures.unnamed_addresses = sum(not frame.lines for frame in addressed)
    processes, threads = set(), set()
    for trace, process, thread, group in profile:
        processes.add(process)
        threads.add((process, thread))
        figures.samples += group.count
        figures.guessed += group.count * any(frame.guessed for frame in trace.frames)
        figures.unresolved += group.count * any(not frame.lines for frame in trace.frames)
        if trace.fault:
            figures.faults[trace.fault] = figures.faults.get(trace.fault, 0) + group.count
        else:
            figures.complete += group.count
    figures.processes, figures.threads = len(processes), len(threads)
    return figures
