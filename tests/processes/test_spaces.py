# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What BPF finds in `mappings` is what was mapped: nothing else, and nothing left over."""

import struct
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent.abi._generated import MappingFlag, Unwinder
from otelagent.interpreters.registry import FAMILIES, Detected
from otelagent.processes.spaces import Mapping, Spaces, range_keys
from tests.processes.fakes import FakeTrie

PAGE = 0x1000
END = 1 << 47


class Files:
    """Counts the users of files, as `Executables`."""

    def acquire(self, loaded):
        loaded.users += 1

    def release(self, loaded):
        loaded.users -= 1
        assert loaded.users >= 0


@dataclass(eq=False)
class File:
    """What a mapping wants to know of a `Loaded`."""

    key: int
    interpreter: Detected | None
    users: int = 0
    keeps_frames: bool = False


def file(key, *eval_loop):
    return File(key, Detected(FAMILIES[0], None, eval_loop) if eval_loop else None)


@pytest.fixture
def trie():
    return FakeTrie()


@pytest.fixture
def spaces(trie):
    return Spaces(trie, Files())


def prefixes(start, end):
    """Take keys apart: (address, prefix bits of 64)."""
    keys = range_keys(7, start, end)
    for at in range(0, len(keys), 16):
        bits, *_ = struct.unpack_from("=I", keys, at)
        space, addr = struct.unpack_from(">IQ", keys, at + 4)
        assert space == 7
        yield addr, bits - 32


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 64))
def test_prefixes_cover_the_range_exactly_and_once(start, size):
    end = min(start + size, (1 << 64) - 1)
    at = start
    for addr, bits in prefixes(start, end):
        assert addr == at
        assert 1 <= bits <= 64
        assert addr % (1 << (64 - bits)) == 0
        at += 1 << (64 - bits)
    assert at == end


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 40))
def test_prefixes_are_few(start, size):
    assert len(list(prefixes(start, start + size))) <= 2 * size.bit_length()


ranges = st.tuples(st.integers(0, 40), st.integers(1, 12), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(ranges, max_size=14))
def test_the_newest_mapping_of_a_page_wins(operations):
    """Against a list of pages: overlaps on both sides, holes, the same one again."""
    trie = FakeTrie()
    files = [file(key) for key in (1, 2, 3)]
    spaces = Spaces(trie, Files())
    space = spaces.make()
    expected = {}
    for first, pages, which in operations:
        loaded = files[which] if which < 3 else None
        spaces.add(space, Mapping(first * PAGE, (first + pages) * PAGE, 0, loaded))
        expected |= dict.fromkeys(range(first, first + pages), which)

    for page in range(54):
        for addr in (page * PAGE, page * PAGE + PAGE - 1):
            found = trie.find(space.number, addr)
            which = expected.get(page)
            assert (found is None) == (which is None)
            if found:
                assert found[0] <= addr < found[1]
                assert found[3] == (0 if which == 3 else files[which].key)
                assert space.find(addr).start == found[0]
            else:
                assert space.find(addr) is None
    assert space.mappings == sorted(space.mappings, key=lambda each: each.start)
    spaces.release(space)
    assert not trie
    assert [each.users for each in files] == [0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(ranges, max_size=10), st.lists(ranges, max_size=10))
def test_replacing_all_keeps_no_trace_of_before(before, after):
    trie = FakeTrie()
    loaded = file(1)
    spaces = Spaces(trie, Files())
    space = spaces.make()
    for first, pages, _ in before:
        spaces.add(space, Mapping(first * PAGE, (first + pages) * PAGE, 0, loaded))
    pages = {page for first, count, _ in after for page in range(first, first + count)}

    spaces.replace(
        space, [Mapping(page * PAGE, (page + 1) * PAGE, 7, loaded) for page in sorted(pages)]
    )

    assert {at // PAGE for at in range(0, 54 * PAGE, PAGE) if trie.find(1, at)} == pages
    assert loaded.users == len(space.mappings) == len(pages)
    spaces.release(space)
    assert not trie


def test_replacing_by_the_same_touches_nothing(spaces, trie):
    space, loaded = spaces.make(), file(1)
    spaces.add(space, Mapping(0, 5 * PAGE, 0, loaded))
    trie.update_many = trie.delete_many = None  # fails when called

    spaces.replace(space, [Mapping(0, 5 * PAGE, 0, loaded)])

    assert loaded.users == 1


def test_mapping_replaced_in_its_middle_leaves_both_ends(spaces, trie):
    space, old, new = spaces.make(), file(1), file(2)
    spaces.add(space, Mapping(0, 10 * PAGE, 0, old))

    spaces.add(space, Mapping(4 * PAGE, 6 * PAGE, 0, new))

    found = [trie.find(1, page * PAGE)[3] for page in range(10)]
    assert found == [1, 1, 1, 1, 2, 2, 1, 1, 1, 1]
    assert (old.users, new.users) == (2, 1)
    assert trie.ranges(1) == [(0, 10 * PAGE)]


def test_eval_loop_is_cut_out(spaces, trie):
    """Its hot and its cold part, in ELF addresses; the rest of the file stays native."""
    bias = 0x7F00_0000_0000
    python = file(1, (0x1800, 0x2345), (0x5000, 0x5010), (0x9000, 0x9100))
    space = spaces.make()

    spaces.add(space, Mapping(bias + 0x1000, bias + 0x6000, bias, python))

    def owner(elf_addr):
        return trie.find(1, bias + elf_addr)[4]

    assert [owner(at) for at in (0x1000, 0x17FF, 0x2345, 0x4FFF, 0x5010, 0x5FFF)] == [
        Unwinder.NATIVE
    ] * 6
    assert [owner(at) for at in (0x1800, 0x2344, 0x5000, 0x500F)] == [Unwinder.PYTHON] * 4
    assert trie.ranges(1) == [(bias + 0x1000, bias + 0x6000)]
    spaces.release(space)
    assert not trie


def test_eval_loop_is_its_own_familys():
    family = replace(FAMILIES[0], unwinder=Unwinder.STOP)
    loaded = File(1, Detected(family, None, ((0, 0x10),)))

    assert list(Mapping(0, 0x20, 0, loaded).pieces()) == [
        (0, 0x10, Unwinder.STOP),
        (0x10, 0x20, Unwinder.NATIVE),
    ]


@pytest.mark.parametrize("loop", [(0, 0x1800), (0x5800, 0x9000), (0, 0x9000)])
def test_eval_loop_that_the_mapping_holds_in_part(spaces, trie, loop):
    space = spaces.make()

    spaces.add(space, Mapping(0x1000, 0x6000, 0, file(1, loop)))

    for addr in range(0x1000, 0x6000, 0x100):
        inside = loop[0] <= addr < loop[1]
        assert trie.find(1, addr)[4] == (Unwinder.PYTHON if inside else Unwinder.NATIVE)
    assert trie.ranges(1) == [(0x1000, 0x6000)]


def test_highest_user_address_and_negative_bias(spaces, trie):
    space = spaces.make()

    spaces.add(space, Mapping(END - PAGE, END, -PAGE, file(1)))

    assert trie.find(1, END - 1)[:3] == (END - PAGE, END, (1 << 64) - PAGE)
    assert trie.find(1, END) is None


def test_copy_is_made_only_for_who_shares(spaces, trie):
    space, loaded = spaces.make(), file(1)
    spaces.add(space, Mapping(0, PAGE, 0, loaded))
    assert spaces.own(space) is space

    copy = spaces.own(spaces.share(space))

    assert copy.number != space.number
    assert (space.users, copy.users, loaded.users) == (1, 1, 2)
    spaces.release(space)
    assert trie.ranges(copy.number) == [(0, PAGE)]
    assert not trie.ranges(space.number)
    spaces.release(copy)
    assert not trie


def test_who_kept_an_answer_is_told_of_what_was_taken_away_but_not_of_ends(trie):
    told = []
    spaces = Spaces(trie, Files(), lambda: told.append(len(trie)))
    space = spaces.make()
    spaces.add(space, Mapping(0, PAGE, 0, file(1)))
    spaces.add(space, Mapping(PAGE, 2 * PAGE, 0, file(1)))
    assert not told

    spaces.add(space, Mapping(0, PAGE, 0, file(2)))
    assert told == [1]  # when it was gone already
    spaces.replace(space, [])
    assert told == [1, 1, 0]
    spaces.add(space, Mapping(0, PAGE, 0, file(1)))
    spaces.release(space)  # its number is never used again
    assert told == [1, 1, 0]


def test_anonymous_code_of_a_process_with_v8_keeps_frames(spaces):
    """Whether it was mapped before V8 or after; reading the same again changes nothing."""
    space, v8 = spaces.make(), file(1)
    v8.keeps_frames = True
    before, after = Mapping(PAGE, 2 * PAGE, 0, None), Mapping(4 * PAGE, 5 * PAGE, 0, None)
    spaces.add(space, before)
    assert not space.mappings[0].keeps_frames

    spaces.add(space, Mapping(2 * PAGE, 3 * PAGE, 0, v8))
    spaces.add(space, after)

    for anonymous in (before, after):
        found = space.find(anonymous.start)
        assert found == anonymous
        _, values = found.entries(space.number)
        flags = {
            int.from_bytes(values[at - 4 : at], "little") for at in range(40, len(values) + 1, 40)
        }
        assert flags == {1 << MappingFlag.ANON_BIT | 1 << MappingFlag.FRAMES_BIT}
