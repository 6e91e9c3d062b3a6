# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The export thread: sends what waits, oldest first, and tries again until it is taken.

Whoever hands requests over never waits for the network. A receiver that is away costs
the oldest requests once the queue is full, and they are counted.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from otelagent.errors import AgentError
from otelagent.export.account import Account, Amount
from otelagent.export.answer import Answer, Verdict
from otelagent.log import fields

if TYPE_CHECKING:
    from otelagent.export.backlog import Backlog, Lost
    from otelagent.export.records import Record

logger = logging.getLogger(__name__)
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0
MAX_ASKED_WAIT_S = 600.0
"""A receiver that asks for more is asked again after this, all the same."""
MAX_REASONS = 8
"""So many are told of one outage."""
STEADY_S, SELDOM_S = 60.0, 300.0
"""That an outage is over is told at once, but not twice within the second unless nothing failed
for the first: one that comes and goes is one outage."""
ABORT_SECONDS = 1.0
"""How long an aborted request may take to notice."""


class Client(Protocol):
    """Sends a request to a receiver."""

    def send(self, data: bytes) -> Answer:
        """Send a request and say what became of it."""
        ...

    def abort(self) -> None:
        """End what is being sent; from any thread."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def next_wait_s(failures: int, asked_s: float, chance: float) -> float:
    """Say how long to wait after so many failures in a row.

    Twice as long each time, by chance half to all of it, so that a fleet does not come back
    at once; never less than was asked for.
    """
    wait_s = min(FIRST_WAIT_S * 2.0 ** min(failures - 1, 30), MAX_WAIT_S) * (0.5 + chance / 2)
    return max(wait_s, min(asked_s, MAX_ASKED_WAIT_S) * (1 + chance / 10))


class Exporter(threading.Thread):
    """Sends requests to one receiver; `put`, `close` and `summary` are called by others."""

    def __init__(
        self, name: str, client: Client, backlog: Backlog[Any], rng: random.Random | None = None
    ) -> None:
        super().__init__(name="export", daemon=True)
        self.where = name
        self._client = client
        self._next_client: Client | None = None
        self._backlog = backlog
        self._rng = rng or random.Random()  # noqa: S311 (no secret depends on it)
        self._lock = threading.Condition()
        self._ending = self._is_closed = self._is_aborted = False
        self._deadline = float("inf")
        self._failures = 0
        self._said: set[str] = set()
        self._refused_said: set[str] = set()
        self._failed_at = self._well_at = float("-inf")
        self.account = Account()
        # What an earlier run left in the spool, with what had no room there any more.
        found, lost = backlog.queued, backlog.lost()
        self.account.attempted.add(found.samples, found.requests)
        for samples, _ in lost:
            self.account.attempted.add(samples)
        self._book(lost)

    def put(self, record: Record) -> None:
        """Hand a request over."""
        with self._lock:
            self.account.attempt(record.samples)
            self._book(self._backlog.put(record))
            self._lock.notify_all()

    def _book(self, lost: Lost) -> None:
        for samples, reason in lost:
            self.account.drop(samples, reason)

    def run(self) -> None:
        """Send until `close`, and then what is left, until its deadline."""
        while (record := self._next()) is not None:
            began = time.monotonic()
            try:
                answer = self._pick().send(record.data)
            except Exception as err:  # noqa: BLE001 (one request never ends the thread)
                answer = Answer(Verdict.REFUSED, f"{type(err).__name__}: {err}")
            if self._is_aborted and answer.verdict == Verdict.AGAIN:
                # What the client says of its own end tells nobody anything.
                took_s = time.monotonic() - began
                answer = Answer(Verdict.AGAIN, f"no answer for {took_s:.1f} s when the agent ended")
            wait_s = self._settle(record, answer)
            if wait_s:
                self._rest(wait_s, min(answer.wait_s, wait_s))
        self._client.close()

    def use(self, client: Client) -> None:
        """Send by another client from the next request on; from any thread."""
        with self._lock:
            self._next_client = client

    def _pick(self) -> Client:
        with self._lock:
            old, self._client, self._next_client = (
                self._client,
                self._next_client or self._client,
                None,
            )
        if old is not self._client:
            old.close()
        return self._client

    def _next(self) -> Record | None:
        with self._lock:
            while True:
                if time.monotonic() >= self._deadline:
                    return None
                record = self._backlog.claim()
                self._book(self._backlog.lost())
                if record is not None or self._ending:
                    return record
                self._lock.wait()

    def _settle(self, record: Record, answer: Answer) -> float:
        """Book what became of a request; gives how long to wait before the next."""
        with self._lock:
            if self._is_closed:
                return 0.0  # it was given up
            if answer.verdict == Verdict.AGAIN:
                self._failures += 1
                self.account.retry()
                self._backlog.abandon()
            else:
                self._failures = 0
                self._backlog.finish()
            if answer.verdict == Verdict.DELIVERED:
                self.account.deliver(record.samples, answer.rejected)
            elif answer.verdict == Verdict.REFUSED:
                self.account.drop(record.samples, "the receiver refused it")
        self._tell(answer)
        if answer.verdict == Verdict.AGAIN:
            return next_wait_s(self._failures, answer.wait_s, self._rng.random())
        return 0.0

    def _tell(self, answer: Answer) -> None:
        """Say what is wrong once, however often it happens, and that it is over."""
        refused = self._refused_said
        if answer.rejected and answer.what not in refused and len(refused) < MAX_REASONS:
            refused.add(answer.what)
            what = "profiles of a request were refused"
            logger.warning("%s", fields(what, receiver=self.where, why=answer.what))
        now = time.monotonic()
        if answer.verdict == Verdict.DELIVERED:
            steady, seldom = now - self._failed_at >= STEADY_S, now - self._well_at >= SELDOM_S
            if self._said and (steady or seldom):
                logger.warning("%s", fields("delivering again", receiver=self.where))
                self._said.clear()
                self._well_at = now
            return
        self._failed_at = now
        # Reasons may take turns: TLS that is refused ends now with an alert, now without.
        if answer.what in self._said or len(self._said) >= MAX_REASONS:
            return
        self._said.add(answer.what)
        what = "not delivered" if self._is_aborted else "not delivered, trying again"
        if answer.verdict == Verdict.REFUSED:
            what = "refused, and dropped"
        logger.warning("%s", fields(what, receiver=self.where, why=answer.what, hint=answer.hint))

    def _rest(self, wait_s: float, asked_s: float) -> None:
        """Wait; where the end comes meanwhile, only for as long as the receiver asked for."""
        began = time.monotonic()
        with self._lock:
            had_ended = self._ending
            while True:
                is_last = self._ending and not had_ended  # one more try
                until = min(began + (asked_s if is_last else wait_s), self._deadline)
                if (now := time.monotonic()) >= until:
                    return
                self._lock.wait(until - now)

    def close(self, seconds: float) -> None:
        """Send what is left for so long at most, then give up."""
        with self._lock:
            self._ending = True
            self._failures = 0  # what is on its way may fail: there is time for some more tries
            self._deadline = time.monotonic() + seconds
            self._lock.notify_all()
        if self.is_alive():
            self.join(seconds)
            if self.is_alive():
                self._is_aborted = True
                self._client.abort()
                self.join(ABORT_SECONDS)
        with self._lock:
            self._is_closed = True
            try:
                self._book(self._backlog.close())
            except AgentError as err:
                logger.warning("%s", fields("the spool was not closed", error=err))

    @property
    def queued(self) -> Amount:
        """What waits to be sent."""
        with self._lock:
            queued = self._backlog.queued
            return Amount(queued.requests, queued.samples)

    @property
    def queued_bytes(self) -> int:
        """What that takes."""
        return self._backlog.bytes

    def summary(self) -> str:
        """Tell in one line what became of everything."""
        with self._lock:
            return f"{self.where}: requests: {self.account.summary(self._backlog.queued)}"
