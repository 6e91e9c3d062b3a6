# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How often the reader looks into the ring."""

import time
from types import SimpleNamespace

from otelagent.queues import BoundedQueue
from otelagent.traces.reader import FIRST_MS, FIRST_OF_ALL_MS, LAST_MS, ReaderThread, next_wait_ms


def waits(*events):
    wait_ms = FIRST_MS
    for was_asked, met_unknown in events:
        wait_ms = next_wait_ms(wait_ms, was_asked=was_asked, met_unknown=met_unknown)
        yield wait_ms


def test_a_steady_recording_is_looked_at_ever_less_often():
    quiet = (False, False)

    assert list(waits(*[quiet] * 6)) == [100, 200, 400, 800, LAST_MS, LAST_MS]


def test_who_asks_for_names_does_not_make_the_next_waits_shorter():
    """Each new function of an interpreter asks by itself, and rare ones come for minutes."""
    quiet, asked = (False, False), (True, False)

    assert list(waits(quiet, quiet, quiet, asked, asked, quiet)) == [100, 200, 400, 400, 400, 800]


def test_after_code_that_was_not_known_the_reader_comes_soon():
    quiet, unknown = (False, False), (True, True)

    assert list(waits(quiet, quiet, unknown, quiet)) == [100, 200, FIRST_MS, 100]


def test_of_a_whole_system_it_does_not_come_as_soon():
    """There something is new all the time."""
    unknown = {"was_asked": True, "met_unknown": True}

    assert next_wait_ms(1000, first_ms=FIRST_OF_ALL_MS, **unknown) == FIRST_OF_ALL_MS > FIRST_MS


def test_what_it_says_to_have_handed_on_was_sampled_before_it_looked():
    """A sample that comes while the ring is drained may have been missed."""
    handed_on, looks = [], []

    def drain():
        looks.append(time.monotonic_ns())
        return SimpleNamespace(has_more=len(looks) < 3)

    ring = SimpleNamespace(fileno=lambda: -1, drain=drain, take=tuple)
    collector = SimpleNamespace(
        add_batch=lambda _batch: handed_on.append(reader.drained_ns), add_samples=lambda _: None
    )
    reader = ReaderThread(ring, collector, BoundedQueue(1))
    began_ns = reader.drained_ns

    reader.flush()
    reader.close()

    assert handed_on == [began_ns] * 3
    assert began_ns < reader.drained_ns <= looks[0]
