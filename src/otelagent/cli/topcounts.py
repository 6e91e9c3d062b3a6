# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `top` shows: profiles of what was sampled lately, and sums of all."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.profile.model import Profile
from otelagent.profile.views import View, Views

if TYPE_CHECKING:
    from otelagent.cli.session import Session
    from otelagent.cli.topstate import State
    from otelagent.profile.views import Functions, Owners, Row

WINDOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Head:
    """What the first line tells."""

    what: str
    elapsed: float
    per_second: float
    lost: int
    short: int
    window_seconds: float


class Counts:
    """Profiles of what was sampled lately, and sums of all, which stay small."""

    def __init__(self, session: Session, interval: float) -> None:
        # The command is forked before.
        from otelagent.bpf.known import KnownTraces  # noqa: PLC0415
        from otelagent.recording import Merger  # noqa: PLC0415
        from otelagent.traces.recent import Bounds, RecentTraces  # noqa: PLC0415

        self.session = session
        self.collector = session.profiler.collector
        self.merger = Merger(session.profiler)
        self._known = KnownTraces.of(*session.profiler.objects)
        self._lately = RecentTraces(
            *(self.collector, session.profiler.handler, self._known, self.merger.keep, Bounds())
        )
        self._views = Views()
        self.functions = self._views.functions()
        self._sums: dict[View, Functions | Owners] = {View.FUNCTIONS: self.functions}
        for view in (View.LINES, View.PROCESSES, View.THREADS):
            self._sums[view] = self._views.make(view)
        # Of the last profiles: what was shown last is asked for again at the next refresh.
        self._window: tuple[View, Functions | Owners]
        self._window = (View.FUNCTIONS, self._views.make(View.FUNCTIONS, bounded=False))
        self.total = 0
        self.recent: deque[Profile] = deque(maxlen=max(round(WINDOW_SECONDS / interval), 1))
        self.window_seconds = interval * (self.recent.maxlen or 1)
        self._seen = (time.monotonic(), 0)
        self.per_second = 0.0

    def tick(self) -> None:
        """Take what was counted since the last call."""
        self.session.profiler.flush()
        groups = self.collector.take()
        self._lately.note({key.hash for key in groups})
        latest = Profile()
        self.merger.add(groups.items(), latest)
        self.note(latest)
        (then, before), now = self._seen, time.monotonic()
        samples = self.collector.tally_now().samples
        self.per_second = (samples - before) / max(now - then, 1e-3)
        self._seen = (now, samples)

    def note(self, latest: Profile) -> None:
        """Add a profile to all sums, and take away of the window's what is no longer in it."""
        _, window = self._window
        if len(self.recent) == self.recent.maxlen:
            window.add(self.recent[0], -1)
        window.add(latest)
        self.recent.append(latest)
        for sums in self._sums.values():
            sums.add(latest)
        self.total += latest.total

    def close(self) -> None:
        """Give back what is shared with BPF; nothing is counted any more."""
        self._known.close()

    def rows(self, state: State) -> tuple[list[Row], int]:
        """Sum up what the state asks for: the rows, and the value of the whole."""
        if state.since_start:
            return self._sums[state.view].rows(), self.total
        shown, window = self._window
        if shown is not state.view:
            window = self._views.make(state.view, bounded=False)
            for profile in self.recent:
                window.add(profile)
            self._window = (state.view, window)
        return window.rows(), sum(profile.total for profile in self.recent)

    def head(self, what: str) -> Head:
        """Gather what the first line of the screen tells."""
        tally = self.collector.tally_now()
        return Head(
            what,
            self.session.elapsed,
            self.per_second,
            self.session.profiler.losses().lost_samples,
            sum(tally.faults.values()),
            self.window_seconds,
        )

    def figures(self) -> str:
        """Tell how it goes, as a line above a plain table."""
        head = self.head("")
        return (
            f"{head.elapsed:.1f} s  {head.per_second:.0f} samples/s  "
            f"{head.lost} lost  {head.short} short stacks"
        )
