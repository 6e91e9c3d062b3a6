# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The export thread: nothing is lost that can be kept, and everything else is counted."""

import random
import threading
import time

import pytest

from otelagent.export import exporter as module
from otelagent.export.account import Amount
from otelagent.export.answer import Answer, Verdict
from otelagent.export.backlog import ENDED, FULL, MemoryBacklog
from otelagent.export.endpoint import Endpoint, parse_address
from otelagent.export.exporter import Exporter, next_wait_s
from otelagent.export.http_client import HttpClient
from tests.export.receivers import DEADLINE_SECONDS, HttpReceiver, babble, drip, pids_of, record

AGAIN = Answer(Verdict.AGAIN, "away")


class FakeClient:
    """Gives the answers that it was told; then takes everything."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.taken = []
        self.aborted = threading.Event()

    def send(self, data):
        answer = self.answers.pop(0) if self.answers else Answer(Verdict.DELIVERED)
        if answer is None:
            self.aborted.wait(DEADLINE_SECONDS)
            return AGAIN
        if isinstance(answer, Exception):
            raise answer
        if answer.verdict == Verdict.DELIVERED:
            self.taken.append(data)
        return answer

    def abort(self):
        self.aborted.set()

    def close(self):
        pass


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(module, "MAX_WAIT_S", 0.05)
    monkeypatch.setattr(module, "ABORT_SECONDS", 0.2)


def exporter(client, most_bytes=1 << 20):
    return Exporter("receiver", client, MemoryBacklog(most_bytes), random.Random(1))


def wait_until(is_done):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_exact(sender):
    assert sender.account.unaccounted(sender.queued) == Amount()


def test_what_is_put_is_delivered_in_order():
    client = FakeClient()
    sender = exporter(client)
    sender.start()
    records = [record(samples=n, pid=n) for n in (1, 2, 3)]

    for each in records:
        sender.put(each)
    sender.close(5)

    assert client.taken == [each.data for each in records]
    assert sender.account.delivered == Amount(3, 6)
    assert_exact(sender)


def test_a_receiver_that_is_away_costs_nothing_but_time():
    client = FakeClient(AGAIN, AGAIN, AGAIN)
    sender = exporter(client)
    sender.start()

    sender.put(record())
    wait_until(lambda: client.taken)
    sender.close(5)

    assert (sender.account.delivered, sender.account.retries) == (Amount(1, 3), 3)
    assert sender.account.lost == Amount()


def test_what_is_refused_is_dropped_and_the_next_is_sent():
    client = FakeClient(Answer(Verdict.REFUSED, "HTTP 400"))
    sender = exporter(client)
    sender.start()

    sender.put(record(samples=1))
    sender.put(record(samples=2))
    sender.close(5)

    assert sender.account.lost == Amount(1, 1)
    assert sender.account.delivered == Amount(1, 2)
    assert_exact(sender)


def test_a_bug_in_a_client_costs_one_request():
    client = FakeClient(RuntimeError("bug"))
    sender = exporter(client)
    sender.start()

    sender.put(record())
    sender.put(record())
    sender.close(5)

    assert (sender.account.lost.requests, len(client.taken)) == (1, 1)


def test_a_full_queue_overwrites_the_oldest_and_counts_it():
    records = [record(samples=n) for n in range(1, 6)]
    size = len(records[0].data)
    sender = exporter(FakeClient(), most_bytes=3 * size + 100)

    for each in records:
        sender.put(each)

    assert {reason: str(a) for reason, a in sender.account.dropped.items()} == {
        FULL: "2 (3 samples)"
    }
    assert sender.queued == Amount(3, 12)
    assert_exact(sender)
    assert "5 (15 samples) attempted = 0 (0 samples) delivered + 2 (3" in sender.summary()


def test_the_one_that_is_being_sent_is_not_overwritten():
    client = FakeClient(None)
    first, second, third = record(pid=1), record(pid=2), record(pid=3)
    sender = exporter(client, most_bytes=2 * len(first.data) + 100)
    sender.start()
    sender.put(first)
    wait_until(lambda: not client.answers)

    sender.put(second)
    sender.put(third)

    client.abort()
    sender.close(5)
    assert client.taken == [first.data, third.data]
    assert_exact(sender)


def test_one_that_is_larger_than_the_queue_is_counted():
    sender = exporter(FakeClient(), most_bytes=10)

    sender.put(record())

    assert (sender.account.lost, sender.queued) == (Amount(1, 3), Amount())


def test_the_end_does_not_wait_for_a_receiver_that_hangs():
    sender = exporter(FakeClient(None))
    sender.start()
    sender.put(record())
    sender.put(record())
    began = time.monotonic()

    sender.close(0.2)

    assert time.monotonic() - began < 5
    assert sender.account.dropped[ENDED] == Amount(2, 6)
    assert_exact(sender)


def test_the_last_requests_are_sent_at_the_end_though_a_wait_was_on(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_S", 60)
    monkeypatch.setattr(module, "MAX_WAIT_S", 60)
    client = FakeClient(AGAIN)
    sender = exporter(client)
    sender.start()
    sender.put(record())
    wait_until(lambda: sender.account.retries)

    sender.close(5)

    assert sender.account.delivered == Amount(1, 3)


def test_waits_grow_and_are_never_shorter_than_asked(monkeypatch):
    monkeypatch.undo()

    assert [next_wait_s(n, 0, 1.0) for n in (1, 2, 3, 99)] == [1.0, 2.0, 4.0, 60.0]
    assert next_wait_s(1, 0, 0.0) == 0.5
    assert next_wait_s(1, 30, 0.0) == 30.0
    assert next_wait_s(1, 1e9, 0.0) == 600.0


def test_at_the_end_a_receiver_is_asked_once_more_but_not_before_it_wished(monkeypatch):
    """However long the next wait would have been after so many failures."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 60.0)
    monkeypatch.setattr(module, "MAX_WAIT_S", 60.0)
    sender = exporter(FakeClient(Answer(Verdict.AGAIN, "busy", wait_s=0.3)))
    sender.start()
    began = time.monotonic()
    sender.put(record())
    wait_until(lambda: sender.account.retries)

    sender.close(10)

    assert sender.account.delivered == Amount(1, 3)
    assert 0.3 <= time.monotonic() - began < 5


def test_a_try_that_fails_after_the_end_began_is_not_the_last(monkeypatch):
    """However long the wait would have been after so many failures before."""
    monkeypatch.setattr(module, "MAX_WAIT_S", 60.0)
    client = FakeClient(None)
    sender = exporter(client)
    sender._failures = 30
    sender.start()
    sender.put(record())
    wait_until(lambda: not client.answers)
    end = threading.Thread(target=sender.close, args=(10,))
    end.start()
    wait_until(lambda: sender._ending)

    client.aborted.set()
    end.join()

    assert sender.account.delivered == Amount(1, 3)


def test_trouble_is_told_once_and_that_it_is_over(caplog):
    client = FakeClient(*[AGAIN] * 5)
    sender = exporter(client)
    sender.start()
    sender.put(record())
    wait_until(lambda: client.taken)
    sender.close(5)

    said = [each.getMessage() for each in caplog.records]
    assert said == [
        "not delivered, trying again receiver=receiver why=away",
        "delivering again receiver=receiver",
    ]


def test_reasons_that_take_turns_are_told_once_each(caplog):
    other = Answer(Verdict.AGAIN, "closed")
    client = FakeClient(*[AGAIN, other] * 3)
    sender = exporter(client)
    sender.start()
    sender.put(record())
    wait_until(lambda: client.taken)
    sender.close(5)

    said = [each.getMessage() for each in caplog.records]
    assert [line.rpartition("why=")[2] for line in said[:-1]] == ["away", "closed"]


def test_a_receiver_that_comes_and_goes_is_one_outage(caplog):
    """Told as soon as it is over the first time; then seldom, however often it goes on."""
    well = Answer(Verdict.DELIVERED)
    sender = exporter(FakeClient(*[AGAIN, well] * 20))
    sender.start()
    for _ in range(20):
        sender.put(record())
    sender.close(5)

    said = [each.getMessage().partition(" receiver=")[0] for each in caplog.records]
    assert sender.account.retries == 20
    assert said == ["not delivered, trying again", "delivering again", said[0]]


@pytest.mark.parametrize("name", ["STEADY_S", "SELDOM_S"])
def test_that_it_is_over_is_told_when_it_has_been_well_or_nothing_was_told_for_long(
    name, caplog, monkeypatch
):
    monkeypatch.setattr(module, name, 0.0)
    sender = exporter(FakeClient(*[AGAIN, Answer(Verdict.DELIVERED)] * 3))
    sender.start()
    for _ in range(3):
        sender.put(record())
    sender.close(5)

    assert len(caplog.records) == 6


def test_every_kind_of_misbehaviour_ends_in_exact_numbers():
    """Hung, slow, corrupting, refusing, gone and back: nothing is lost, all conform."""
    receiver = HttpReceiver(drip, babble, (503, {}, b""), (429, {"retry-after": "0"}, b""))
    receiver.answers.insert(0, receiver.hang)
    endpoint = Endpoint(parse_address(receiver.url), timeout_s=0.2)
    sender = Exporter("r", HttpClient(endpoint, "x"), MemoryBacklog(1 << 20), random.Random(1))
    sender.start()
    for pid in range(1, 4):
        sender.put(record(pid=pid))
    wait_until(lambda: len(receiver.requests) == 3)
    receiver.close()
    sender.put(record(pid=4))
    wait_until(lambda: sender.account.retries >= 7)

    with HttpReceiver(port=receiver.port) as back:
        wait_until(lambda: back.requests)
        sender.close(5)

    assert [pids_of(one) for one in receiver.requests + back.requests] == [[1], [2], [3], [4]]
    assert receiver.faults + back.faults == []
    assert sender.account.delivered == Amount(4, 12)
    assert_exact(sender)


def test_profiles_that_a_receiver_refuses_are_counted_and_told_once(caplog):
    partial = Answer(Verdict.DELIVERED, "too old, says this test", rejected=2)
    sender = exporter(FakeClient(partial, partial))
    sender.start()
    sender.put(record())
    sender.put(record())
    sender.close(5)

    assert (sender.account.delivered, sender.account.rejected) == (Amount(2, 6), 4)
    assert [each.getMessage().partition(" receiver")[0] for each in caplog.records] == [
        "profiles of a request were refused"
    ]
    assert "4 profiles refused by the receiver" in sender.summary()


def test_a_receiver_with_ever_new_words_is_quoted_some_times(caplog):
    sender = exporter(
        FakeClient(*(Answer(Verdict.DELIVERED, f"request {n}", rejected=1) for n in range(50)))
    )
    sender.start()
    for _ in range(50):
        sender.put(record())
    sender.close(5)

    assert sender.account.rejected == 50
    assert len(caplog.records) == module.MAX_REASONS


def test_another_client_is_used_from_the_next_request_on_and_the_old_one_closed():
    old, new = FakeClient(), FakeClient()
    closed = []
    old.close = lambda: closed.append("old")
    sender = exporter(old)
    sender.start()
    first, second = record(pid=1), record(pid=2)
    sender.put(first)
    wait_until(lambda: old.taken)

    sender.use(new)
    sender.put(second)
    sender.close(5)

    assert (old.taken, new.taken, closed) == ([first.data], [second.data], ["old"])
    assert_exact(sender)


def test_a_receiver_that_hangs_at_the_end_is_told_in_words_that_say_so(caplog):
    sender = exporter(FakeClient(None))
    sender.start()
    sender.put(record())
    wait_until(lambda: not sender._client.answers)

    sender.close(0.1)

    [said] = [each.getMessage() for each in caplog.records]
    assert said.startswith("not delivered receiver=receiver why=no answer for 0.")
    assert said.endswith(" s when the agent ended")
