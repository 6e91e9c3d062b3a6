# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-ins of BPF's maps: what is written is what the host's unwinders find."""

import struct

import pytest

from otelagent._native import lib
from otelagent.abi._generated import Limit
from otelagent.errors import KernelError
from otelagent.processes.executables import Executables
from otelagent.processes.hostmaps import HostChunks, HostHash, HostMemory, HostRanges
from otelagent.processes.rowstore import RowStore
from otelagent.processes.spaces import Mapping, Spaces, range_keys
from otelagent.unwind.host import HostUnwinder, Tables
from tests.processes.fakes import table_of
from tests.unwind.walks import FILE, FP, PID, TEXT, World, parse, rule, table

SPACE_KEY, START = 3, 0x5000


def hash_map():
    return HostHash(Tables(), lib.OA_HOST_PAGES, 4, 8)


def test_a_hash_map_keeps_what_was_written():
    pages = hash_map()
    pages.update_many(b"aaaabbbb", b"1" * 8 + b"2" * 8)
    pages[b"cccc"] = b"3" * 8

    assert pages.get(b"bbbb") == b"2" * 8
    assert pages.delete(b"bbbb")
    assert not pages.delete(b"bbbb")
    assert pages.delete_many(b"aaaabbbb") == 1
    assert pages.items() == [(b"cccc", b"3" * 8)]
    assert pages.get(b"aaaa") is None


def test_a_hash_map_refuses_other_sizes():
    with pytest.raises(ValueError, match="a key has 4 bytes, not 3"):
        hash_map()[b"aaa"] = bytes(8)
    with pytest.raises(ValueError, match="keys have 4 bytes each"):
        hash_map().update_many(b"aaa", bytes(8))


@pytest.fixture
def machine():
    """Spaces and rows over one host's tables, as for BPF."""
    tables = Tables()
    rules = HostMemory(32 * Limit.MAX_RULES)
    tables.use_rules(rules.pointer, rules.bytes)
    pages = HostHash(tables, lib.OA_HOST_PAGES, 16, 16)
    store = RowStore(HostChunks(tables), rules, pages, lambda: 0)
    ranges = HostRanges(tables)
    spaces = Spaces(ranges, Executables(store, lambda _s, _e: table_of(1), lambda _e: None))
    return tables, ranges, spaces


def covered(tables, space, addr):
    """Whether an unwinder finds a mapping there: `drop_space` would count it."""
    world = World(pc=addr, rows={}, stack=[0])
    tables.update(
        lib.OA_HOST_PROCESSES,
        PID.to_bytes(4, "little"),
        (11).to_bytes(8, "little") + b"".join(n.to_bytes(4, "little") for n in (12, PID, space, 0)),
    )
    return parse(HostUnwinder(tables).unwind(world.deferred())).fault.name != "NO_MAPPING"


def test_a_range_is_found_until_its_last_prefix_is_taken(machine):
    tables, _, spaces = machine
    space = spaces.make()
    odd = Mapping(START, START + 0x7000, 0, None)  # of several prefixes

    spaces.add(space, odd)
    assert covered(tables, space.number, START)
    assert covered(tables, space.number, START + 0x6FFF)
    assert not covered(tables, space.number, START + 0x7000)

    spaces.add(space, Mapping(START + 0x2000, START + 0x3000, 0x1000, None))
    assert covered(tables, space.number, START + 0x1000)
    assert covered(tables, space.number, START + 0x2800)
    spaces.release(space)
    assert not covered(tables, space.number, START)


def test_ranges_that_overlap_are_refused(machine):
    _, ranges, _ = machine
    ranges.update_many(*Mapping(START, START + 0x1000, 0, None).entries(SPACE_KEY))
    other = Mapping(START, START + 0x2000, 0, None).entries(SPACE_KEY)

    with pytest.raises(KernelError, match="overlaps"):
        ranges.update_many(*other)


def test_rows_that_the_store_places_are_walked():
    """From a row table through the store's pages and chunks to a caller's frame."""
    tables = Tables()
    rules = HostMemory(32 * Limit.MAX_RULES)
    tables.use_rules(rules.pointer, rules.bytes)
    store = RowStore(
        HostChunks(tables), rules, HostHash(tables, lib.OA_HOST_PAGES, 16, 16), lambda: 0
    )
    world = World(rows={0x1000: rule()}, stack=[TEXT + 5, 0], regs={FP: 0})
    store.load(FILE, table(world.rows))
    HostRanges(tables).update_many(*_one_mapping())
    covered(tables, SPACE_KEY, TEXT)

    walk = parse(HostUnwinder(tables).unwind(world.deferred()))

    assert walk.addrs == [0x1000, 0x1005]


def _one_mapping():
    value = struct.pack("=QQQQII", TEXT, TEXT + 0x100000, TEXT - 0x1000, FILE, 0, 0)
    keys = range_keys(SPACE_KEY, TEXT, TEXT + 0x100000)
    return keys, value * (len(keys) // 16)
