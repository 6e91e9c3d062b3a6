# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent.formats.perf_map import MAX_ENTRIES, CodeMap, parse_perf_map

TEXT = b"1000 20 LazyCompile:*add /app/a.js:3:1\n1020 10 second\n7f0000 5 two words\n"


def name_at(data: bytes, table: CodeMap, addr: int) -> str | None:
    found = table.find(addr)
    return None if found is None else data[found[1] :].partition(b"\n")[0].decode()


def test_name_may_have_spaces_and_ends_with_the_range():
    table = CodeMap()

    assert parse_perf_map(TEXT, table) == len(TEXT)
    assert name_at(TEXT, table, 0x101F) == "LazyCompile:*add /app/a.js:3:1"
    assert name_at(TEXT, table, 0x7F0004) == "two words"
    assert name_at(TEXT, table, 0x7F0005) is None
    assert name_at(TEXT, table, 0xFFF) is None


def test_later_line_hides_earlier_ones():
    data = TEXT + b"1010 8 moved\n1000 4 newest\n"
    table = CodeMap()
    parse_perf_map(data, table)

    assert name_at(data, table, 0x1002) == "newest"
    assert name_at(data, table, 0x1012) == "moved"
    assert name_at(data, table, 0x1008) is None


def test_unfinished_line_is_left_for_the_next_reading():
    table = CodeMap()
    used = parse_perf_map(TEXT[:60], table)

    assert TEXT[:used].endswith(b"second\n") is (used == 54)
    assert parse_perf_map(TEXT[used:], table, used) == len(TEXT) - used
    assert name_at(TEXT, table, 0x7F0000) == "two words"


def test_entries_are_bounded(monkeypatch):
    monkeypatch.setattr("otelagent.formats.perf_map.MAX_ENTRIES", 3)
    table = CodeMap()
    parse_perf_map(b"".join(b"%x 1 f\n" % (i + 1) for i in range(10)), table)

    assert len(table) == 3 < MAX_ENTRIES


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200) | st.lists(st.sampled_from(list(TEXT)), max_size=200).map(bytes))
def test_any_bytes_are_parsed(data):
    table = CodeMap()

    assert 0 <= parse_perf_map(data, table) <= len(data)
    for addr in (0, 0x1010, 0x7F0000, (1 << 64) - 1):
        table.find(addr)
