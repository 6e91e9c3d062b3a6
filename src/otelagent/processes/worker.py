# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The processes thread: applies events in order, finishes deferred stacks.

Each round takes what was posted, then drains the side-band: what happened
before a report was sent is thus applied before the report.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from otelagent import metrics
from otelagent.abi._generated import Fault, ReportReason
from otelagent.abi.codec import Origin, Report, decode_origin, decode_trace
from otelagent.bpf.sideband import EventKind
from otelagent.errors import KernelError
from otelagent.log import fields
from otelagent.queues import BoundedQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.bpf.sideband import Event, Sideband
    from otelagent.processes.spaces import Space
    from otelagent.processes.table import ProcessTable

logger = logging.getLogger(__name__)
MAX_WAITING, MAX_WAITING_BYTES = 8192, 24 << 20
"""Deferred stacks that wait for their code to be loaded; most have some 6 KB."""
PACK_BYTES = 4 << 20
"""What waits beyond this is packed: up to 115 KB become a tenth, in a tenth of a millisecond."""
MAX_POSTED_REPORTS = 4096
"""Reports that wait; one that is dropped comes again while the process needs attention."""
MAX_DRAINS = 64
"""How often a round drains at most: full buffers of 250 CPUs, but not what comes meanwhile."""
COMPANY_MS = 5
"""How long an event of the kernel waits for others; what BPF reports ends the wait."""
IDLE_COMPANY_MS = 50
"""The same where the last ones were not wanted: the machine is busy with something else."""
HASTE_MS, HASTE_ROUNDS = 1, 8
"""The same so often after a report, where targets are few: what has just begun maps its code."""
REFRESH_SECONDS = 1.0
MAX_HOLD_NS = 60_000_000_000
"""How long what ended is kept for samples that are still in the ring, at most."""
_TOO_MANY = "too many wait"
PATIENCE_ROUNDS = 5
"""How often a deferred stack is tried again; rounds are 20 ms apart while any waits."""


class Finisher(Protocol):
    """Unwinds deferred stacks in user space."""

    def unwind(self, deferred: bytes, space: Space | None, *, is_last: bool = False) -> bytes:
        """Walk a deferred stack (`struct oa_deferred`) with the code of an address space, if any.

        With `is_last` no more code will come: what lies elsewhere is none.

        Returns:
            The trace record that BPF would have sent.
        """
        ...


@dataclass(slots=True)
class Waiting:
    """A deferred stack whose code is not known yet.

    Raises:
        ValueError: It is none.
    """

    data: bytes
    origin: Origin = field(init=False)
    rounds: int = 0
    is_packed: bool = False

    def __post_init__(self) -> None:
        self.origin = decode_origin(self.data)

    def pack(self) -> None:
        """Take less memory."""
        import zstandard  # noqa: PLC0415 (few recordings come to this)

        if not self.is_packed:
            self.data, self.is_packed = zstandard.compress(self.data, level=1), True

    def unpacked(self) -> bytes:
        """Give the record."""
        if not self.is_packed:
            return self.data
        import zstandard  # noqa: PLC0415

        return zstandard.decompress(self.data)


class ProcessesThread(threading.Thread):
    """Owns the process table. `post` may be called from any thread.

    Args:
        finisher: Unwinds a deferred stack in user space.
        on_finished: Takes the trace record of a finished deferred stack.
        on_python: Makes the Python interpreter of a process known, or renews its threads.
        on_ksymbol: Told of kernel symbols that come and go.
        is_alive: Tells whether a pid still is.
        drained_ns: Tells up to when (CLOCK_MONOTONIC) all that was sampled has been posted.
        go_on: Does a little of what has time, when there is nothing else to do; tells whether
            something is left.
    """

    def __init__(
        self,
        table: ProcessTable,
        sideband: Sideband,
        finisher: Finisher,
        *,
        on_finished: Callable[[bytes], None],
        on_python: Callable[[Report], None],
        on_ksymbol: Callable[[Event], None],
        is_alive: Callable[[int], bool],
        drained_ns: Callable[[], int] = time.monotonic_ns,
        go_on: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(name="processes", daemon=True)
        self._table = table
        self._sideband = sideband
        self._finisher = finisher
        self._on_finished = on_finished
        self._on_python = on_python
        self._on_ksymbol = on_ksymbol
        self._is_alive = is_alive
        self._drained_ns = drained_ns
        self._go_on = go_on
        self._seen_ns = 0
        self._reports: BoundedQueue[Report] = BoundedQueue(MAX_POSTED_REPORTS)
        self._deferred: BoundedQueue[Waiting] = BoundedQueue(MAX_WAITING, MAX_WAITING_BYTES)
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._ending = threading.Event()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_lively = True
        self._is_woken = False
        self._haste = 0
        sideband.watch(self._wake_fd)
        self.error: BaseException | None = None
        self.cpu_ns = 0

    def post(self, item: Report | bytes) -> None:
        """Hand over a report, or the bytes of a deferred stack."""
        if isinstance(item, Report):
            if not self._reports.put(item):
                metrics.reports_dropped.add()
        else:
            self._defer(item)
        self.wake()

    def _defer(self, data: bytes) -> None:
        try:
            wait = Waiting(data)
        except ValueError:
            metrics.deferred_dropped.add(reason="malformed")
            return
        if self._deferred.bytes + self._waiting_bytes > PACK_BYTES:
            wait.pack()
        if not self._deferred.put(wait, len(wait.data)):
            metrics.deferred_dropped.add(reason=_TOO_MANY)

    def depths(self) -> dict[str, int]:
        """Count what waits for us; from any thread."""
        return {
            "reports": len(self._reports),
            "deferred": len(self._deferred) + len(self._waiting),
        }

    @property
    def _has_posted(self) -> bool:
        return bool(len(self._reports) or len(self._deferred))

    def wake(self) -> None:
        """Begin the next round now."""
        if not self._is_woken:  # each call may take the poster its turn
            self._is_woken = True
            os.eventfd_write(self._wake_fd, 1)

    def end(self) -> None:
        """Finish what was posted and stop."""
        self._ending.set()
        self.wake()
        self.join()

    def run(self) -> None:
        """Work until `end` is called."""
        try:
            next_refresh = 0.0
            while not self._ending.is_set() or self._has_posted:
                if time.monotonic() >= next_refresh:
                    self._refresh()
                    next_refresh = time.monotonic() + REFRESH_SECONDS
                if not self._sideband.has_more and not self._has_posted:
                    self._sleep()
                self._round()
            self._round()
        except BaseException as err:  # noqa: BLE001 (shown by the front: it joins us)
            self.error = err
        finally:
            self.cpu_ns = time.thread_time_ns()

    def _sleep(self) -> None:
        """Wait for something to do; events that we want are often followed by others soon."""
        has_plans = self._go_on() or self._waiting
        patience_ms = 20 if has_plans else int(REFRESH_SECONDS * 1000)
        self._sideband.wait(patience_ms, self._company_ms())
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

    def _company_ms(self) -> int:
        if self._haste:
            self._haste -= 1
            return HASTE_MS
        return COMPANY_MS if self._is_lively else IDLE_COMPANY_MS

    def _refresh(self) -> None:
        """Follow CPUs that come and go, and forget what ended."""
        try:
            if self._sideband.refresh():
                self._round()  # what was told until now is as doubtful as what is known
                self._table.doubt(time.monotonic_ns())
        except KernelError as err:
            logger.warning("%s", fields("process events of a CPU are lost", error=err))
        # On a machine that leaves us little time the ring has samples of what ended long ago.
        seen_ns = min([self._seen_ns, *(wait.origin.time_ns for wait in self._waiting)])
        self._table.clean(max(seen_ns, time.monotonic_ns() - MAX_HOLD_NS), self._is_alive)

    def _round(self) -> None:
        self._is_woken = False  # before what it was woken for is taken
        self._seen_ns = self._drained_ns()
        reports, deferred = self._reports.take(), self._deferred.take()
        self._is_lively = False
        for _ in range(MAX_DRAINS):
            self._apply(self._sideband.drain())
            if not self._sideband.has_more:
                break
        for report in reports:
            self._report(report)
        for wait in deferred:
            self._wait(wait)
        self._finish_waiting()

    def _apply(self, events: list[Event]) -> None:
        for event in events:
            if event.kind == EventKind.KSYMBOL:  # others load BPF programs
                self._on_ksymbol(event)
            else:
                self._is_lively = True
        self._table.apply(events)

    def _report(self, report: Report) -> None:
        if report.reason != ReportReason.PY_THREAD:
            self._table.reported(report.generation, report.addr, report.time_ns)
            self._haste = 0 if self._table.wants_all else HASTE_ROUNDS
        # Also for a process that is new: its first Python frames come with its first mappings.
        self._on_python(report)

    def _wait(self, wait: Waiting) -> None:
        is_full = self._waiting_bytes + len(wait.data) > MAX_WAITING_BYTES
        if is_full or len(self._waiting) >= MAX_WAITING:
            metrics.deferred_dropped.add(reason=_TOO_MANY)
            return
        self._waiting.append(wait)
        self._waiting_bytes += len(wait.data)

    def _finish_waiting(self) -> None:
        """Finish the deferred stacks that can be finished.

        A round has applied everything that happened before it, so what is not known after
        some of them never will be; how long a round takes, loading files, does not count.
        """
        if self._sideband.has_more and not self._ending.is_set():
            return
        for _ in range(len(self._waiting)):
            wait = self._waiting.popleft()
            wait.rounds += 1
            finished = self._try_to_finish(wait)
            if finished is None:
                self._waiting.append(wait)
            else:
                self._waiting_bytes -= len(wait.data)
                self._on_finished(finished)

    def _try_to_finish(self, wait: Waiting) -> bytes | None:
        is_last = self._ending.is_set() or wait.rounds > PATIENCE_ROUNDS
        generation, time_ns = wait.origin
        if not is_last and not self._table.is_ready(generation, time_ns):
            return None
        space = self._table.space_at(generation, time_ns)
        finished = self._finisher.unwind(wait.unpacked(), space, is_last=is_last)
        if not is_last and decode_trace(finished).fault == Fault.NO_MAPPING:
            return None
        return finished
