# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""All that the agent knows of itself, as readings. May be called by any thread.

Names are OpenTelemetry's; what is said of a stack, a loss or a fault has the words of
`oa_abi.h` and of `metrics.py`, so that nothing is explained twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from otelagent import metrics
from otelagent.abi._generated import Counter
from otelagent.health.usage import read_usage
from otelagent.metrics import Kind, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otelagent.bpf.statistics import RunTime
    from otelagent.export.account import Account, Amount
    from otelagent.losses import Losses
    from otelagent.metrics import Labels
    from otelagent.traces.collector import Tally

MOST_REASONS = 20
"""Reasons that a counter is split by; the rest is `other`, so that nothing grows for ever."""
_LOSSES = [each.name for each in Counter if each.name.startswith("LOST_")]
_BPF = [Counter.TICKS, Counter.FRAMES, Counter.STEPS, Counter.LOOKUPS, Counter.DEFERRED]
_BPF += [Counter.REPORTS, Counter.REPORTS_LIMITED, Counter.KERNEL_ONLY, Counter.KERNEL_CUT]
_BPF += [Counter.GUESSED, Counter.TARGETS_FULL, Counter.FORKS_FULL]


class Sink(Protocol):
    """Where requests go, as far as its book is concerned."""

    where: str
    account: Account

    @property
    def queued(self) -> Amount:
        """What waits."""
        ...

    @property
    def queued_bytes(self) -> int:
        """What that takes, in memory or on disk."""
        ...


def counter(name: str, text: str, unit: str, *points: tuple[Labels, float]) -> Reading:
    """Make a reading that only grows."""
    return Reading(f"otelagent.{name}", text, Kind.COUNTER, unit, points)


def gauge(name: str, text: str, unit: str, *points: tuple[Labels, float]) -> Reading:
    """Make a reading that goes up and down."""
    return Reading(f"otelagent.{name}", text, Kind.GAUGE, unit, points)


def by(label: str, values: Mapping[str, float]) -> list[tuple[Labels, float]]:
    """Make a point for each value, with its name as the label."""
    return [(((label, name),), value) for name, value in values.items()]


def of_traces(tally: Tally, losses: Losses) -> Iterator[Reading]:
    """What was sampled, how well stacks were walked, and what was lost on the way."""
    yield counter("samples", "samples that arrived", "{sample}", ((), tally.samples))
    sent = losses.counters
    new, deferred = sent.get("TRACES", 0), sent.get("DEFERRED", 0)
    kinds = {"new": new, "deferred": deferred}
    kinds["known"] = max(sent.get("SAMPLES", 0) - new - deferred, 0)
    text = "samples that BPF sent: with a new stack, of a known one, or to be unwound later"
    yield counter("traces", text, "{sample}", *by("kind", kinds))
    results = {"complete": tally.complete, "guessed": tally.guessed}
    results |= {"short": sum(tally.faults.values())}
    text = "user stacks: walked to their end, with a guessed frame, or cut short"
    yield counter("stacks", text, "{sample}", *by("result", results))
    points = [
        ((("error", name.lower()), ("runtime", runtime_of(name))), count)
        for name, count in tally.faults.items()
    ]
    yield counter("unwinding.errors", "user stacks that ended early", "{sample}", *points)
    yield counter("lost", "what was lost, by place and reason", "{item}", *_lost(losses))
    events = {each.name.lower(): sent.get(each.name, 0) for each in _BPF}
    yield counter("bpf.events", "what BPF counts besides", "{event}", *by("event", events))


def runtime_of(fault: str) -> str:
    """Tell whose unwinder a fault is of."""
    return "cpython" if fault.startswith("PY_") else "native"


def _lost(losses: Losses) -> Iterator[tuple[Labels, float]]:
    for name in _LOSSES:
        reason = name.removeprefix("LOST_").lower()
        yield (("place", "bpf"), ("reason", reason)), losses.counters.get(name, 0)
    for each in metrics.LOST_SAMPLES:
        for reason, count in split(each).items() or {"": 0}.items():
            yield (("place", each.name.removeprefix("otelagent.")), ("reason", reason)), count


def split(of: metrics.Counter) -> dict[str, int]:
    """Give a counter's values by reason, at most `MOST_REASONS` of them."""
    values = dict(of.values)
    if len(values) <= MOST_REASONS:
        return values
    ordered = sorted(values, key=values.__getitem__, reverse=True)
    found = {reason: values.pop(reason) for reason in ordered[: MOST_REASONS - 1]}
    return found | {"other": sum(values.values())}


def of_user_space() -> Iterator[Reading]:
    """Every counter of `metrics.py` that is not told by name elsewhere."""
    elsewhere = {each.name for each in (*metrics.LOST_SAMPLES, *metrics.EXPORT)}
    elsewhere.add(metrics.throttled.name)  # it is counted at the end
    for each in list(metrics.ALL.values()):
        if each.name in elsewhere:
            continue
        values = split(each) or {"": 0}
        points = [((("reason", reason),) if reason else (), n) for reason, n in values.items()]
        yield counter(each.name.removeprefix("otelagent."), each.help, "{item}", *points)


def of_sinks(sinks: Sequence[Sink]) -> Iterator[Reading]:
    """What became of requests: attempted = delivered + dropped + queued, for each sink."""
    requests: list[tuple[Labels, float]] = []
    samples: list[tuple[Labels, float]] = []
    for sink in sinks:
        account = sink.account
        outcomes = {("attempted", ""): account.attempted, ("delivered", ""): account.delivered}
        outcomes |= {("dropped", reason): each for reason, each in dict(account.dropped).items()}
        for (outcome, reason), amount in outcomes.items():
            labels: Labels = (("sink", sink.where), ("outcome", outcome))
            labels += (("reason", reason),) if reason else ()
            requests.append((labels, amount.requests))
            samples.append((labels, amount.samples))
    yield counter("export.requests", "requests, by what became of them", "{request}", *requests)
    yield counter("export.samples", "samples in these requests", "{sample}", *samples)
    tried = {sink.where: sink.account.retries for sink in sinks}
    yield counter("export.retries", "requests sent once more", "{request}", *by("sink", tried))
    refused = {sink.where: sink.account.rejected for sink in sinks}
    text = "profiles refused of requests that were taken"
    yield counter("export.rejected", text, "{profile}", *by("sink", refused))
    waiting = {sink.where: sink.queued for sink in sinks}
    depth = {where: amount.requests for where, amount in waiting.items()}
    yield gauge("export.queued", "requests that wait", "{request}", *by("sink", depth))
    depth = {where: amount.samples for where, amount in waiting.items()}
    yield gauge("export.queued_samples", "samples that wait", "{sample}", *by("sink", depth))
    size = {sink.where: sink.queued_bytes for sink in sinks}
    text = "what waits takes, in memory or in the spool; or what the store takes"
    yield gauge("export.queued_size", text, "By", *by("sink", size))


def of_sampling(frequency_hz: int, cpus: int, throttled: int) -> Iterator[Reading]:
    """How often CPUs are interrupted."""
    text = "samples per second and CPU that are asked for now; 0: it is switched off"
    yield gauge("sampling.frequency", text, "Hz", ((), frequency_hz))
    yield gauge("sampling.cpus", "CPUs that are sampled", "{cpu}", ((), cpus))
    help_text = metrics.throttled.help
    yield counter("sampling.throttled", help_text, "{tick}", ((), throttled))


def of_queues(depths: Mapping[str, int]) -> Reading:
    """What waits between our threads."""
    return gauge("queue.items", "items that wait between threads", "{item}", *by("queue", depths))


def of_maps(fills: Mapping[str, tuple[int, int]]) -> Iterator[Reading]:
    """How full BPF maps are; `fills` has entries and room by map."""
    entries = {name: fill[0] for name, fill in fills.items()}
    room = {name: fill[1] for name, fill in fills.items()}
    yield gauge("map.entries", "entries of BPF maps", "{entry}", *by("map", entries))
    yield gauge("map.limit", "entries that they have room for", "{entry}", *by("map", room))


def of_process(uptime_s: float) -> Iterator[Reading]:
    """What the agent costs: OpenTelemetry's own names, thus without ours before them."""
    usage = read_usage()
    cpu = by("cpu.mode", {"user": usage.user_s, "system": usage.system_s})
    memory, virtual = usage.resident_bytes, usage.virtual_bytes
    files = usage.open_files
    rows: tuple[tuple[str, str, Kind, str, list[tuple[Labels, float]]], ...] = (
        ("cpu.time", "CPU time, with children that ended", Kind.COUNTER, "s", cpu),
        ("memory.usage", "resident memory", Kind.GAUGE, "By", [((), memory)]),
        ("memory.virtual", "virtual memory", Kind.GAUGE, "By", [((), virtual)]),
        ("open_file_descriptor.count", "open files", Kind.GAUGE, "{count}", [((), files)]),
        ("uptime", "time since sampling began", Kind.GAUGE, "s", [((), uptime_s)]),
    )
    for name, text, kind, unit, points in rows:
        yield Reading(f"process.{name}", text, kind, unit, tuple(points))


def of_bpf(times: Mapping[str, RunTime]) -> Iterator[Reading]:
    """What the kernel spent in our programs."""
    text = "time spent in BPF programs, with those they call"
    spent = {name: each.time_ns / 1e9 for name, each in times.items()}
    yield counter("bpf.run_time", text, "s", *by("program", spent))
    runs = {name: each.runs for name, each in times.items()}
    yield counter("bpf.runs", "how often they ran", "{run}", *by("program", runs))
