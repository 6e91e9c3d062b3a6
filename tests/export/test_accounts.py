# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Each bad receiver: at any moment attempted = delivered + dropped + queued, and so at the end."""

import random
import time

import pytest

from otelagent.export import exporter as module
from otelagent.export.account import Amount
from otelagent.export.backlog import ENDED, FULL, MemoryBacklog
from otelagent.export.endpoint import Endpoint, parse_address
from otelagent.export.exporter import Exporter
from otelagent.export.http_client import HttpClient
from otelagent.export.spool import SpoolBacklog
from tests.export.receivers import HttpReceiver, babble, drip, hang_up, record

KINDS = {
    "hung": None,
    "slow": drip,
    "corrupting": babble,
    "cutting": hang_up,
    "refusing": (429, {"retry-after": "0"}, b""),
    "busy": (503, {}, b""),
    "rejecting": (400, {}, b""),
}
COUNT = 12


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(module, "MAX_WAIT_S", 0.01)
    monkeypatch.setattr(module, "ABORT_SECONDS", 0.5)


def begin(receiver, backlog):
    endpoint = Endpoint(parse_address(receiver.url), timeout_s=0.05)
    sender = Exporter("r", HttpClient(endpoint, "x"), backlog, random.Random(1))
    sender.start()
    return sender


def balance(sender):
    """What is missing in the sum, read at one moment."""
    with sender._lock:
        return sender.account.unaccounted(sender._backlog.queued)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spooled", [False, True])
def test_the_sum_is_exact_at_any_moment_and_at_the_end(kind, spooled, tmp_path):
    size = 4096 if spooled else len(record().data)
    most_bytes = 4 * size + 100
    backlog = SpoolBacklog(str(tmp_path), most_bytes) if spooled else MemoryBacklog(most_bytes)
    balances = set()
    with HttpReceiver() as receiver:
        bad = receiver.hang if KINDS[kind] is None else KINDS[kind]
        receiver.answers = [bad] * 1000
        sender = begin(receiver, backlog)
        for number in range(COUNT):
            sender.put(record(samples=number + 1))
            balances.add(str(balance(sender)))
            time.sleep(0.005)
        sender.close(0.1)

    account, queued = sender.account, sender.queued
    assert balances == {str(Amount())}
    assert balance(sender) == Amount()
    assert account.attempted == Amount(COUNT, COUNT * (COUNT + 1) // 2)
    assert (queued.requests > 0) == (spooled and kind not in {"rejecting", "cutting"})
    assert queued.requests <= 4
    # A head that says 200 is a delivery, whatever becomes of the rest.
    assert bool(account.delivered.requests) == (kind == "cutting")
    if kind not in {"rejecting", "cutting"}:
        assert set(account.dropped) == ({FULL} if spooled else {FULL, ENDED})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"rejecting", "cutting"}])
def test_what_was_within_the_bound_is_delivered_once_it_is_well_again(kind):
    with HttpReceiver() as receiver:
        bad = receiver.hang if KINDS[kind] is None else KINDS[kind]
        receiver.answers = [bad] * 5
        sender = begin(receiver, MemoryBacklog(1 << 20))
        for number in range(COUNT):
            sender.put(record(samples=number + 1))
        sender.close(10)

    assert sender.account.delivered == sender.account.attempted
    assert len(receiver.requests) == COUNT
    assert balance(sender) == Amount()
