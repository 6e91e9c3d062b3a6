# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The spool: what was not sent is there after a restart, bounded, and damage is counted."""

import random

import pytest

from otelagent import metrics
from otelagent.errors import OutputError
from otelagent.export.account import Amount
from otelagent.export.answer import Answer, Verdict
from otelagent.export.backlog import FULL
from otelagent.export.exporter import Exporter
from otelagent.export.spool import DAMAGED, NOT_WRITTEN, SpoolBacklog
from otelagent.export.store import Store
from tests.export.receivers import record

ROOM = 10 * 4096


def files(path):
    return sorted(each.name for each in path.glob("*.zst"))


def drain(spool):
    found = []
    while one := spool.claim():
        found.append(one)
        spool.finish()
    return found


def test_what_was_put_is_claimed_in_order_and_removed(tmp_path):
    spool = SpoolBacklog(str(tmp_path / "new" / "spool"), ROOM)
    records = [record(samples=n) for n in (1, 2, 3)]

    assert [spool.put(each) for each in records] == [[], [], []]
    assert spool.queued == Amount(3, 6)

    assert drain(spool) == records
    assert (spool.queued, files(tmp_path / "new" / "spool")) == (Amount(), [])


def test_a_restart_loses_nothing_not_even_what_was_being_sent(tmp_path):
    first = SpoolBacklog(str(tmp_path), ROOM)
    records = [record(samples=n) for n in (1, 2)]
    for each in records:
        first.put(each)
    first.claim()
    assert first.close() == []

    second = SpoolBacklog(str(tmp_path), ROOM)

    assert second.queued == Amount(2, 3)
    second.put(record(samples=9))
    assert [one.samples for one in drain(second)] == [1, 2, 9]


def test_a_full_spool_overwrites_the_oldest(tmp_path):
    spool = SpoolBacklog(str(tmp_path), 2 * 4096)
    for samples in (1, 2):
        spool.put(record(samples=samples))

    assert spool.put(record(samples=3)) == [(1, FULL)]
    assert [one.samples for one in drain(spool)] == [2, 3]


def test_one_that_was_left_larger_is_cut_to_size_and_counted(tmp_path):
    first = SpoolBacklog(str(tmp_path), ROOM)
    for samples in (1, 2, 3):
        first.put(record(samples=samples))
    first.close()

    sender = Exporter("r", Taker(), SpoolBacklog(str(tmp_path), 4096), random.Random(1))

    assert sender.account.attempted == Amount(3, 6)
    assert sender.account.dropped[FULL] == Amount(2, 3)
    assert sender.account.unaccounted(sender.queued) == Amount()
    sender.close(0)


class Taker:
    def send(self, data):
        return Answer(Verdict.DELIVERED)

    def abort(self):
        pass

    def close(self):
        pass


def test_a_damaged_file_costs_itself_and_is_counted(tmp_path):
    first = SpoolBacklog(str(tmp_path), ROOM)
    for samples in (1, 2, 3):
        first.put(record(samples=samples))
    first.close()
    damaged, gone, _ = files(tmp_path)
    (tmp_path / damaged).write_bytes(b"\0" * 100)
    (tmp_path / "0.part").write_bytes(b"a write that a crash ended")
    sender = Exporter("r", Taker(), SpoolBacklog(str(tmp_path), ROOM), random.Random(1))
    (tmp_path / gone).unlink()

    sender.start()
    sender.close(5)

    assert sender.account.dropped == {DAMAGED: Amount(2, 3)}
    assert sender.account.delivered == Amount(1, 3)
    assert sender.account.unaccounted(sender.queued) == Amount()
    assert files(tmp_path) == []
    assert not (tmp_path / "0.part").exists()


def test_what_is_left_at_the_end_stays_queued(tmp_path):
    sender = Exporter("r", Taker(), SpoolBacklog(str(tmp_path), ROOM), random.Random(1))
    sender.put(record(samples=5))

    sender.close(0)  # never started: the receiver was never reached

    assert sender.queued == Amount(1, 5)
    assert sender.account.unaccounted(sender.queued) == Amount()
    assert len(files(tmp_path)) == 1


def test_a_disk_that_cannot_be_written_is_counted(tmp_path, monkeypatch):
    spool = SpoolBacklog(str(tmp_path), ROOM)
    monkeypatch.setattr(
        type(spool._directory), "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )

    assert spool.put(record(samples=4)) == [(4, NOT_WRITTEN)]
    assert spool.queued == Amount()


def test_two_agents_cannot_share_one(tmp_path):
    first = SpoolBacklog(str(tmp_path), ROOM)

    with pytest.raises(OutputError, match="in use"):
        SpoolBacklog(str(tmp_path), ROOM)

    first.close()
    SpoolBacklog(str(tmp_path), ROOM).close()


def test_a_place_that_is_no_directory_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError):
        SpoolBacklog(str(tmp_path / "file"), ROOM)


def test_files_that_are_not_ours_are_told_counted_and_left_alone(tmp_path, caplog):
    (tmp_path / "garbage.otlp.zst").write_bytes(b"x" * 100)
    (tmp_path / "notes.txt").write_text("mine")
    before = metrics.kept_skipped.total

    spool = SpoolBacklog(str(tmp_path), 4096)
    spool.put(record())
    spool.close()

    assert (tmp_path / "garbage.otlp.zst").exists()
    assert spool.queued.requests == 1
    assert metrics.kept_skipped.total == before + 1
    [said] = [each.getMessage() for each in caplog.records]
    assert said.startswith("skipped: it is not named as we name files directory=")


def test_a_store_leaves_files_alone_that_are_not_its_own(tmp_path):
    (tmp_path / "garbage.otlp.zst").write_bytes(b"x" * 10_000)

    store = Store(str(tmp_path), 8192, 10**18)
    for _ in range(20):
        store.put(record())
    store.close(0)

    assert (tmp_path / "garbage.otlp.zst").exists()
    assert len(list(tmp_path.glob("*.otlp.zst"))) > 1
