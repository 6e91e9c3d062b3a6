# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `--verbose` tells at the end of a recording: every number, with what it counts."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.abi._generated import HELP, Counter, Fault
from otelagent.model import FrameType
from otelagent.profile.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.losses import Losses
    from otelagent.profile.model import Profile
    from otelagent.profiler import Profiler

MAX_REASONS = 20
MAX_PROGRAMS = 3
_TOLD_SHARE = 0.01
_FAULTS = {fault.name: HELP[Fault][fault] for fault in Fault}


def details(profiler: Profiler, losses: Losses) -> Iterator[str]:
    """List the counters of the kernel side, faults, guesses, and why names are missing."""
    tally = profiler.collector.tally_now()
    yield "counters of the kernel side:"
    for counter in Counter:
        if counter.name in losses.counters:
            yield _line(losses.counters[counter.name], counter.name, HELP[Counter][counter])
    yield f"stacks: {tally.complete} of {tally.user} with user frames are complete"
    yield _line(tally.guessed, "GUESSED", "stacks with a frame found by the frame pointer, no row")
    yield _line(profiler.collector.deferred, "DEFERRED", "stacks copied, and unwound in user space")
    for name, count in sorted(tally.faults.items(), key=lambda fault: -fault[1]):
        yield _line(count, name, _FAULTS.get(name, "an unknown fault"))
    yield "counters of the user side:"
    for metric in metrics.ALL.values():
        if metric.total:
            yield _line(metric.total, metric.name, metric.help)
        for reason, count in metric.values.most_common(MAX_REASONS):
            if reason:
                yield f"{'':14}{count}: {reason}"


def remarks(profiler: Profiler, losses: Losses) -> Iterator[str]:
    """Tell what the last line's numbers mean where something can or cannot be done about it."""
    faults = profiler.collector.tally_now().faults
    unseen = losses.counters.get(Counter.LOST_END.name, 0)
    if losses.lost_samples > unseen:
        yield "samples were lost: a lower frequency (-F) or fewer processes would help"
    if unseen:
        yield f"{unseen} waits were lost: the kernel did not tell that they were over"
    if switches := losses.counters.get(Counter.SWITCHES.name, 0):
        yield waits_line(profiler, losses, switches)
    if profiler.throttled >= _TOLD_SHARE:
        yield (
            f"the kernel left out {100 * profiler.throttled:.1f} % of the ticks: a lower -F, or "
            "sysctl kernel.perf_event_max_sample_rate=100000"
        )
    if count := faults.get(Fault.NOT_64_BIT.name, 0):
        yield f"{count} samples of 32-bit code have kernel frames only: it cannot be unwound"
    if count := faults.get(Fault.MAX_FRAMES.name, 0):
        yield f"{count} stacks have more user frames than were kept: --max-frames, at most 1024"
    if count := faults.get(Fault.PY_NOT_ATTACHED.name, 0):
        yield f"{count} stacks from before their Python was known lack its functions"
    if losses.counters.get(Counter.TARGETS_FULL.name, 0):
        yield "some children were not followed: there were too many processes"


def jit_remarks(profile: Profile) -> Iterator[str]:
    """Tell of which programs stacks end in code that nobody has unwind information for."""
    ended: collections.Counter[str] = collections.Counter()
    for trace, process, _, group in profile:
        last = trace.frames[-1] if trace.frames else None
        if trace.fault == Fault.NO_ROW.name and last and last.type is FrameType.JIT:
            ended[process.name] += group.count
    for name, count in ended.most_common(MAX_PROGRAMS):
        yield (
            f"{count} stacks of {printable(name)} end in code that it compiled while it ran"
            " (JIT): there is no unwinder for it"
        )


def waits_line(profiler: Profiler, losses: Losses, switches: int) -> str:
    """Tell what following waits cost, and what is not of whole waits."""
    each_us = losses.counters[Counter.SWITCHES_NS.name] / switches / 1000
    parts = [f"{switches} switches were followed, {each_us:.1f} µs each"]
    if short := losses.counters[Counter.WAITS_SHORT.name]:
        parts.append(f"{short} short waits left out")
    if profiler.still_waiting:
        parts.append(f"{profiler.still_waiting} threads still waited at the end (counted)")
    return ", ".join(parts)


def _line(count: int, name: str, text: str) -> str:
    return f"{count:>10}  {name.lower()}: {text}"
