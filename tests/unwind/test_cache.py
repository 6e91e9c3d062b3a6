# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import os
import threading

import pytest

from otelagent.unwind.cache import LARGE_BYTES, RowCache, decode_table, encode_table
from otelagent.unwind.rows import RowBuilder

HAS_TURN = b"\x01"
"""After it is written the others are looked at."""


def make_table(offset=8, functions=20):
    builder = RowBuilder([(0x1000, 0x90000)])
    rule = builder.rule(cfa_reg=7, cfa_offset=offset, ra_kind=1, ra_offset=-8)
    for i in range(functions):
        builder.add(0x1000 + i * 64, 32, 1, rule)
    return builder.finish(["made by hand", "in two lines"])


@pytest.fixture
def cache(tmp_path):
    return RowCache(tmp_path / "cache")


def entry(cache, key):
    return cache.directory / (key.hex() + ".rows")


def test_what_was_put_is_got(cache):
    table = make_table()
    cache.put(b"key", table)

    assert cache.get(b"key") == table
    assert RowCache(cache.directory).get(b"key") == table
    assert cache.get(b"other") is None


def test_the_directory_is_private(cache):
    cache.put(b"key", make_table())

    assert cache.directory.stat().st_mode & 0o777 == 0o700
    assert entry(cache, b"key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", [0, 9, 13, 29, 60, -1])
def test_damaged_entry_is_not_used_and_removed(cache, at):
    cache.put(b"key", make_table())
    data = bytearray(entry(cache, b"key").read_bytes())
    data[at] ^= 1
    entry(cache, b"key").write_bytes(data)

    assert cache.get(b"key") is None
    assert not entry(cache, b"key").exists()


def test_cut_entry_is_not_used(cache):
    cache.put(b"key", make_table())
    data = entry(cache, b"key").read_bytes()
    for size in (0, 10, 28, len(data) - 1):
        assert decode_table(data[:size]) is None


def test_inconsistent_arrays_are_not_used_even_with_a_good_checksum():
    """A row that names a rule that is not there would make BPF stop at every frame."""
    table = make_table()
    broken = type(table)(table.pages, table.rows, b"", table.sources)

    assert decode_table(encode_table(broken)) is None


def test_entry_that_others_may_write_is_not_trusted(cache):
    cache.put(b"key", make_table())
    entry(cache, b"key").chmod(0o666)

    assert cache.get(b"key") is None


def test_directory_that_others_may_write_is_not_used(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    cache = RowCache(tmp_path / "open")
    cache.put(b"key", make_table())

    assert list((tmp_path / "open").iterdir()) == []
    assert cache.get(b"key") is None


def test_link_in_place_of_an_entry_is_not_followed(cache, tmp_path):
    (tmp_path / "elsewhere").write_bytes(encode_table(make_table()))
    entry(cache, b"key").symlink_to(tmp_path / "elsewhere")

    assert cache.get(b"key") is None
    assert (tmp_path / "elsewhere").exists()


def test_fifo_in_place_of_an_entry_does_not_block(cache):
    os.mkfifo(entry(cache, b"key"), 0o600)

    assert cache.get(b"key") is None


def test_entries_used_longest_ago_make_room(tmp_path):
    size = len(encode_table(make_table()))
    cache = RowCache(tmp_path / "cache", max_bytes=3 * size)
    for number, key in enumerate((b"a", b"b", b"c")):
        cache.put(key, make_table())
        os.utime(entry(cache, key), (1000 + number, 1000 + number))
    cache.get(b"a")
    cache.put(b"d", make_table())
    cache.put(HAS_TURN, make_table())

    keys = (b"a", b"b", b"c", b"d", HAS_TURN)
    assert [key for key in keys if entry(cache, key).exists()] == [b"a", b"d", HAS_TURN]


def test_not_every_entry_makes_the_others_be_looked_at(cache, monkeypatch):
    looks = []
    monkeypatch.setattr(cache, "_evict", lambda: looks.append(1))
    for number in range(256):
        cache.put(bytes([number]), make_table())
    assert len(looks) == 16

    cache.write("ff.rows", bytes(LARGE_BYTES + 1))
    assert len(looks) == 17


def test_what_a_crashed_writer_left_is_removed(cache):
    left = cache.directory / ".6b.1.00000000"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    cache.put(HAS_TURN, make_table())

    assert not left.exists()


def test_many_writers_and_readers_of_one_key_agree(cache):
    """A reader sees nothing or a whole entry, never half of one."""
    tables = [make_table(offset) for offset in (8, 16, 24)]
    seen = []

    def work(table):
        own = RowCache(cache.directory)
        for _ in range(30):
            own.put(b"key", table)
            seen.append(own.get(b"key"))

    threads = [threading.Thread(target=work, args=(table,)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 90
    assert all(table in tables for table in seen)


def test_directory_that_cannot_be_made_does_no_harm(tmp_path):
    (tmp_path / "file").write_text("")
    cache = RowCache(tmp_path / "file" / "cache")
    cache.put(b"key", make_table())

    assert cache.get(b"key") is None
