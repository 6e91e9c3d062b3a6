# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The store: the newest profiles stay, within bytes and age."""

import os

import pytest

from otelagent.errors import FormatError
from otelagent.export.account import Amount
from otelagent.export.records import Record, read_records
from otelagent.export.store import Store

HOUR = 3600 * 10**9
START = 10**18


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


def kept(path):
    found = []
    for name in sorted(path.glob("*.zst")):
        with name.open("rb") as stream:
            found += [one.samples for one in read_records(stream)]
    return found


def noise(samples, clock, size=1000):
    return Record(os.urandom(size), samples, clock.now, clock.now + 1)


def fill(store, clock, count, *, step=HOUR // 60, size=1000):
    for samples in range(1, count + 1):
        store.put(noise(samples, clock, size))
        clock.now += step


def test_what_is_put_is_read_back_in_order(tmp_path):
    clock = Clock()
    store = Store(str(tmp_path), 1 << 20, 24 * HOUR, clock)

    fill(store, clock, 5)

    assert kept(tmp_path) == [1, 2, 3, 4, 5]
    assert store.account.delivered == Amount(5, 15)
    assert "5 (15 samples) attempted = 5 (15 samples) delivered" in store.summary()


def test_bytes_are_bounded_and_the_newest_stay(tmp_path):
    clock = Clock()
    store = Store(str(tmp_path), 200_000, 1000 * HOUR, clock)

    fill(store, clock, 500)

    sizes = [each.stat().st_size for each in tmp_path.glob("*.zst")]
    assert sum(-(-size // 4096) * 4096 for size in sizes) <= 200_000
    found = kept(tmp_path)
    assert found == list(range(found[0], 501))
    assert len(found) > 100
    assert store.account.unaccounted(Amount()) == Amount()


def test_age_is_bounded(tmp_path):
    clock = Clock()
    store = Store(str(tmp_path), 1 << 30, 5 * HOUR, clock)

    fill(store, clock, 10, step=HOUR)

    found = kept(tmp_path)
    assert found == list(range(found[0], 11))
    assert 4 <= len(found) <= 7


def test_a_restart_goes_on_in_another_file(tmp_path):
    clock = Clock()
    first = Store(str(tmp_path), 1 << 20, 24 * HOUR, clock)
    fill(first, clock, 2)
    first.close(0)
    # What a crash leaves of a record.
    [only] = tmp_path.glob("*.zst")
    with only.open("ab") as stream:
        stream.write(b"half")

    second = Store(str(tmp_path), 1 << 20, 24 * HOUR, clock)
    fill(second, clock, 1)

    assert len(list(tmp_path.glob("*.zst"))) == 2
    with only.open("rb") as stream, pytest.raises(FormatError, match="cut"):
        list(read_records(stream))


def test_a_clock_that_was_set_back_keeps_files_in_order(tmp_path):
    clock = Clock()
    store = Store(str(tmp_path), 1 << 20, 24 * HOUR, clock)
    fill(store, clock, 1)
    store.close(0)
    clock.now = START - HOUR

    fill(Store(str(tmp_path), 1 << 20, 24 * HOUR, clock), clock, 2)

    assert kept(tmp_path) == [1, 1, 2]


def test_a_record_larger_than_the_store_is_counted(tmp_path):
    clock = Clock()
    store = Store(str(tmp_path), 8192, HOUR, clock)

    store.put(noise(7, clock, size=20_000))

    assert store.account.lost == Amount(1, 7)
    assert kept(tmp_path) == []


def test_a_full_disk_is_counted_and_leaves_whole_records(tmp_path, monkeypatch):
    clock = Clock()
    store = Store(str(tmp_path), 1 << 20, HOUR, clock)
    fill(store, clock, 1)
    write = os.pwrite

    def fail(fd, data, at):
        write(fd, data[:10], at)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    fill(store, clock, 1)
    monkeypatch.undo()
    fill(store, clock, 3)

    assert store.account.lost == Amount(1, 1)
    assert kept(tmp_path) == [1, 1, 2, 3]
