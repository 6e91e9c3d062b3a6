# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows in the pool, as BPF reads them: page → chunk and index → row → rule."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent._native import ffi
from otelagent.abi._generated import Limit, Row
from otelagent.errors import TargetError
from otelagent.processes.rowstore import GRACE_NS, RowStore
from otelagent.unwind.rows import RowTable
from tests.processes.fakes import FakeChunks, FakeMemory, pages_map, rule, table_of

FULL = 1 << 16
PAGES_IN_CHUNK = Limit.CHUNK_ROWS // FULL


class Pool:
    """A store over fake maps, with a clock that stands still."""

    def __init__(self, *, most_pages=1 << 30, most_chunks=Limit.MAX_CHUNKS):
        self.now_ns = 0
        self.chunks = FakeChunks()
        self.rules = FakeMemory(32 * Limit.MAX_RULES)
        self.pages = pages_map(most_pages)
        self.store = RowStore(self.chunks, self.rules, self.pages, lambda: self.now_ns, most_chunks)

    def rows(self, file_id, page):
        """What BPF sees of a page: (low address, rule's bytes or command) each."""
        value = self.pages.get(struct.pack("=QQ", file_id, page))
        if value is None:
            return None
        chunk, first, count, _ = struct.unpack("=IIII", value)
        assert first + count <= Limit.CHUNK_ROWS  # a page never straddles two chunks
        data = ffi.buffer(self.chunks.made[chunk].pointer + 4 * first, 4 * count)
        return [
            (row & 0xFFFF, self.meaning(row >> 16)) for (row,) in struct.iter_unpack("=I", data)
        ]

    def meaning(self, index):
        if index >= Row.COMMAND:
            return index
        return bytes(self.rules.buffer[32 * index : 32 * index + 32])

    @property
    def room(self):
        return sum(count for _, _, count in self.store._free)


@pytest.fixture
def pool():
    return Pool()


def test_rows_keep_their_rules_under_other_numbers(pool):
    pool.store.load(1, table_of(2, rules=(8, 16)))

    pool.store.load(2, table_of(3, 1, rules=(24, 16, 8), first_page=5))

    assert pool.rows(1, 0) == [(0, rule(8)), (1, rule(16))]
    assert pool.rows(2, 5) == [(0, rule(24)), (1, rule(16)), (2, rule(8))]
    assert pool.rows(2, 6) == [(0, rule(24))]
    assert pool.rows(2, 7) is pool.rows(3, 5) is None


def test_commands_stay_what_they_are(pool):
    rows = struct.pack("=II", Row.STOP << 16, Row.NONE << 16 | 9)

    pool.store.load(1, RowTable(struct.pack("=III", 3, 0, 2), rows, b""))

    assert pool.rows(1, 3) == [(0, Row.STOP), (9, Row.NONE)]


def test_room_is_used_again_only_after_the_grace_period(pool):
    """A program may still hold a page that it looked up before."""
    first = pool.store.load(1, table_of(10))
    room = pool.room
    pool.store.unload(first)
    assert not pool.pages
    pool.now_ns = GRACE_NS - 1

    second = pool.store.load(2, table_of(10, rules=(99,)))
    assert second.runs != first.runs
    assert pool.room == room - 10
    pool.now_ns = GRACE_NS
    third = pool.store.load(3, table_of(10))

    assert third.runs == first.runs
    assert pool.rows(2, 0)[0] == (0, rule(99))


def test_pool_grows_by_chunks_and_no_page_is_cut(pool):
    pages = PAGES_IN_CHUNK * 2 + 3

    pool.store.load(1, table_of(*[FULL - 1] * pages))

    assert len(pool.chunks.made) == 3
    for page in range(pages):
        found = pool.rows(1, page)
        assert (len(found), found[0], found[-1][0]) == (FULL - 1, (0, rule(8)), FULL - 2)


def test_free_room_in_pieces_is_joined_and_used(pool):
    """Files that come and go: what is freed side by side is one piece again."""
    stored = [pool.store.load(key, table_of(FULL)) for key in range(PAGES_IN_CHUNK)]
    assert pool.room == 0
    for each in stored:
        pool.store.unload(each)
    pool.now_ns = GRACE_NS

    pool.store.load(77, table_of(*[FULL] * PAGES_IN_CHUNK))

    assert len(pool.chunks.made) == 1
    assert pool.room == 0


def test_large_file_goes_into_what_is_left_when_the_pool_cannot_grow():
    pool = Pool(most_chunks=1)
    stored = [pool.store.load(key, table_of(FULL)) for key in range(PAGES_IN_CHUNK)]
    for each in stored[::2]:
        pool.store.unload(each)
    pool.now_ns = GRACE_NS

    pool.store.load(77, table_of(FULL, FULL, FULL))

    assert [len(pool.rows(77, page)) for page in range(3)] == [FULL] * 3


def test_full_pool_is_an_error_and_gives_back_what_was_taken():
    pool = Pool(most_chunks=1)
    with pytest.raises(TargetError, match="full"):
        pool.store.load(1, table_of(*[FULL] * (PAGES_IN_CHUNK + 1)))

    assert not pool.pages
    pool.now_ns = GRACE_NS
    pool.store.load(2, table_of(*[FULL] * PAGES_IN_CHUNK))
    assert len(pool.rows(2, PAGES_IN_CHUNK - 1)) == FULL


def test_full_page_table_is_an_error_and_gives_back_what_was_taken():
    pool = Pool(most_pages=2)
    with pytest.raises(TargetError, match="full"):
        pool.store.load(1, table_of(1, 1, 1))

    assert not pool.pages
    pool.store.load(2, table_of(1, 1))
    assert pool.rows(2, 1)


def test_full_rule_table_is_an_error_and_others_still_load(pool):
    pool.store.load(1, table_of(1, rules=range(Limit.MAX_RULES)))

    with pytest.raises(TargetError, match="more distinct unwind rules"):
        pool.store.load(2, table_of(1, rules=(-1,)))

    pool.store.load(3, table_of(1, rules=(5,)))
    assert pool.rows(3, 0) == [(0, rule(5))]
    assert pool.rows(2, 0) is None


def test_row_that_names_no_rule_is_an_error(pool):
    lying = RowTable(struct.pack("=III", 0, 0, 1), struct.pack("=I", 7 << 16), rule(8))

    with pytest.raises(TargetError, match="rule that is not there"):
        pool.store.load(1, lying)

    assert not pool.pages


def test_file_without_rows_has_no_pages(pool):
    stored = pool.store.load(1, RowTable(b"", b"", b""))

    pool.store.unload(stored)
    assert not pool.chunks.made


steps = st.lists(
    st.one_of(
        st.tuples(st.just("load"), st.lists(st.integers(1, FULL), min_size=1, max_size=6)),
        st.tuples(st.just("unload"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(0, 2 * GRACE_NS)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_no_two_files_ever_share_room(operations):
    pool = Pool()
    live, key = {}, 0
    for what, value in operations:
        if what == "load":
            key += 1
            live[key] = pool.store.load(key, table_of(*value, rules=(key,)))
        elif what == "unload" and live:
            pool.store.unload(live.pop(sorted(live)[value % len(live)]))
        elif what == "wait":
            pool.now_ns += value
    taken = sorted(
        run
        for runs in (
            *(stored.runs for stored in live.values()),
            *(runs for _, runs in pool.store._graveyard),
            pool.store._free,
        )
        for run in runs
    )
    for (chunk, start, count), following in pairwise(taken):
        assert following[0] > chunk or start + count <= following[1]
    assert sum(count for *_, count in taken) == len(pool.chunks.made) * Limit.CHUNK_ROWS
    for each in live:
        assert pool.rows(each, 0)[0] == (0, rule(each))
