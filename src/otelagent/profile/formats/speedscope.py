# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""speedscope's own JSON format: one sampled profile per thread, in the order of time.

https://www.speedscope.app/file-format-schema.json
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

from otelagent.profile.formats.collapsed import frame_name
from otelagent.profile.label import Label, Labels, label_process, label_thread

if TYPE_CHECKING:
    from otelagent.model import Process, SampleGroup, Thread, Trace
    from otelagent.profile.model import Profile

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
EXTRA = "otelagent"
"""Key of what speedscope does not look at: period, times, notes, and ids of each profile."""
CANNOT_HOLD = (
    "times of single samples",
    "addresses and build ids",
    "guessed frames",
    "faults",
    "which functions were inlined",
)


class _Frames:
    """The shared table of frames."""

    def __init__(self) -> None:
        self.table: list[dict[str, Any]] = []
        self.labels = Labels()
        self._numbers: dict[tuple[Label, int], int] = {}
        self._stacks: dict[int, list[int]] = {}

    def stack(self, trace: Trace) -> list[int]:
        """Give the numbers of a trace's frames, root first."""
        known = self._stacks.get(id(trace))
        if known is None:
            known = [self._number(*label) for label in reversed(self.labels.of_trace(trace))]
            self._stacks[id(trace)] = known
        return known

    def _number(self, label: Label, line: int) -> int:
        number = self._numbers.get((label, line))
        if number is None:
            number = self._numbers[label, line] = len(self.table)
            frame: dict[str, Any] = {"name": frame_name(label)}
            if label.file or label.module:
                frame["file"] = label.file or label.module
            if line:
                frame["line"] = line
            self.table.append(frame)
        return number


def timeline(
    groups: list[tuple[Trace, SampleGroup]], *, counts: bool = True
) -> list[tuple[Trace, int]]:
    """Order samples by time, joining equal neighbours; without times, by stack.

    Where samples do not count alike, only the sum of a group is known.
    """
    if not counts or not all(group.timestamps_ns for _trace, group in groups):
        return [(trace, group.value) for trace, group in groups]
    moments = [
        (time_ns, number)
        for number, (_trace, group) in enumerate(groups)
        for time_ns in group.timestamps_ns
    ]
    joined: list[tuple[Trace, int]] = []
    for _time_ns, number in sorted(moments):
        trace, group = groups[number]
        value = group.value // group.count
        if joined and joined[-1][0] is trace:
            joined[-1] = (trace, joined[-1][1] + value)
        else:
            joined.append((trace, value))
    return joined


def encode(profile: Profile) -> dict[str, Any]:
    """Put the profile into the format's JSON types."""
    frames = _Frames()
    threads: dict[tuple[Process, Thread], list[tuple[Trace, SampleGroup]]] = {}
    for trace, process, thread, group in profile:
        threads.setdefault((process, thread), []).append((trace, group))
    scale, unit = 1, "none"
    if profile.counts_samples and profile.period_ns and profile.period_type[1] == "nanoseconds":
        scale, unit = profile.period_ns, "nanoseconds"
    elif profile.sample_type[1] in {"nanoseconds", "bytes"}:
        unit = profile.sample_type[1]
    profiles, keys = [], []
    heaviest_first = sorted(threads.items(), key=lambda item: -sum(g.value for _t, g in item[1]))
    for (process, thread), groups in heaviest_first:
        moments = timeline(groups, counts=profile.counts_samples)
        weights = [value * scale for _trace, value in moments]
        name = (
            f"{label_process(process)} ({process.pid})" if process.pid else label_process(process)
        )
        profiles.append(
            {
                "type": "sampled",
                "name": " ".join(part for part in (name, label_thread(thread)) if part) or "all",
                "unit": unit,
                "startValue": 0,
                "endValue": sum(weights),
                "samples": [frames.stack(trace) for trace, _value in moments],
                "weights": weights,
            }
        )
        keys.append([process.pid, process.name, thread.tid, thread.name])
    return {
        "$schema": SCHEMA,
        "shared": {"frames": frames.table},
        "profiles": profiles,
        "activeProfileIndex": 0,
        "exporter": "otelagent",
        EXTRA: {
            "sample_type": profile.sample_type,
            "period_type": profile.period_type,
            "period_ns": profile.period_ns,
            "scale": scale,
            "start_unix_ns": profile.start_unix_ns,
            "duration_ns": profile.duration_ns,
            "host": dict(profile.host),
            "notes": profile.notes,
            "threads": keys,
        },
    }


def write(profile: Profile, stream: BinaryIO) -> None:
    """Write the profile as UTF-8 JSON."""
    text = json.dumps(encode(profile), separators=(",", ":"), ensure_ascii=False)
    stream.write(text.encode(errors="backslashreplace") + b"\n")


def read(data: bytes) -> Profile:
    """Parse a file.

    Raises:
        FormatError: It is not speedscope's format.
    """
    from otelagent.profile.formats.speedscope_reading import decode  # noqa: PLC0415

    return decode(data)
