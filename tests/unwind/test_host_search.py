# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where a row and a mapping begin and end, to the byte."""

import random
import struct

import pytest

from otelagent._native import lib
from otelagent.abi._generated import CfaKind, Fault, Row
from otelagent.unwind.host import HostTables, HostUnwinder
from otelagent.unwind.rows import RowTable
from tests.unwind.walks import BIAS, FILE, PAGE, PID, SP, SPACE, TEXT, World, parse, rule

CALLER = TEXT + 0x5000


def count_to(frames):
    """A rule whose CFA is `frames` words up, so that the stack tells which rule was used."""
    return rule((CfaKind.REG, SP, 8 * frames))


def used_rule(tables, elf_addr):
    """Which of the rules `count_to(1…)` holds at an address; 0 for none."""
    world = World(pc=elf_addr + BIAS, stack=[CALLER + at for at in range(40)])
    walk = parse(HostUnwinder(tables, max_user_frames=1).unwind(world.deferred()))
    if walk.fault == Fault.NO_ROW:
        return 0
    assert walk.fault == Fault.MAX_FRAMES
    return walk.fault_pc - CALLER + 1


def tables_with(rows):
    world = World(rows=rows | {0x6000: rule()}, mappings=[(TEXT - PAGE, TEXT + (1 << 30))])
    return world.tables()


@pytest.mark.parametrize("page", [1, 2, 5])
def test_rows_hold_from_their_address_to_the_next(page):
    start = page * PAGE
    tables = tables_with({start: count_to(1), start + 1: count_to(2), start + 0xFFFF: count_to(3)})

    found = [used_rule(tables, start + at) for at in (0, 1, 2, 0xFFFE, 0xFFFF)]

    assert found == [1, 2, 2, 2, 3]


def test_a_page_without_rows_has_none_though_its_neighbours_do():
    tables = tables_with({PAGE: count_to(1), 3 * PAGE: count_to(2)})

    found = [used_rule(tables, at) for at in (2 * PAGE - 1, 2 * PAGE, 3 * PAGE - 1, 3 * PAGE)]

    assert found == [1, 0, 0, 2]


def test_every_row_of_a_full_page_is_found():
    """65,536 rows, one for each byte: the search has as many steps as it takes."""
    rules = b"".join(count_to(at) for at in range(1, 31))
    rows = struct.pack("=65536I", *(at | at % 30 << 16 for at in range(PAGE)))
    tables = HostTables()
    tables.set_process(PID, 11, 12, SPACE)
    tables.add_mapping(SPACE, TEXT, TEXT + (1 << 30), bias=BIAS, file_id=FILE)
    tables.add_table(FILE, RowTable(struct.pack("=III", 1, 0, PAGE), rows, rules))
    places = [0, 1, 2, 32767, 32768, 65534, 65535, *random.Random(3).sample(range(PAGE), 500)]

    for at in places:
        assert used_rule(tables, PAGE + at) == at % 30 + 1, at


@pytest.mark.parametrize("count", [1, 2, 3, 31, 32, 33, 1000])
def test_the_search_agrees_with_a_linear_one(count):
    chance = random.Random(count)
    starts = [0, *sorted(chance.sample(range(1, PAGE), count - 1))]
    names = [chance.randrange(30) for _ in starts]
    rows = {PAGE + at: count_to(name + 1) for at, name in zip(starts, names, strict=True)}
    tables = tables_with(rows)

    for at in {0, PAGE - 1, *starts, *(max(at - 1, 0) for at in starts[:200])}:
        expected = max(place for place in range(len(starts)) if starts[place] <= at)
        assert used_rule(tables, PAGE + at) == names[expected] + 1


def test_rows_of_many_files_share_the_pool():
    """More than one chunk of 2 MiB; a page's rows never lie in two."""
    world = World()
    tables = world.tables()
    rules = b"".join(count_to(at) for at in range(1, 31))
    for file in range(20):
        rows = struct.pack("=60000I", *(at | (at + file) % 30 << 16 for at in range(60000)))
        tables.add_table(file + 1, RowTable(struct.pack("=III", 1, 0, 60000), rows, rules))
        base = TEXT + (file + 1 << 20)
        tables.add_mapping(SPACE, base, base + PAGE, bias=base - PAGE, file_id=file + 1)

    for file in range(20):
        base = TEXT + (file + 1 << 20)
        assert used_rule(tables, base + 777 - BIAS) == (777 + file) % 30 + 1


def test_a_return_address_belongs_to_the_call_before_it():
    """A call that does not return may be the last instruction of its function."""
    second = {0x1000: rule(), 0x1800: rule((CfaKind.REG, SP, 16)), 0x1900: Row.STOP}

    walk = World(rows=second, stack=[TEXT + 0x900, 0, CALLER]).walk()

    assert walk.addrs == [0x1000, 0x1900, CALLER - BIAS]


@pytest.mark.parametrize(
    ("pc", "fault"),
    [(TEXT, Fault.NO_MAPPING), (TEXT + 1, Fault.NONE), (TEXT + 0x1000, Fault.NONE)],
)
def test_a_return_address_at_a_mapping_s_first_byte_is_not_in_it(pc, fault):
    """… and one right behind its last byte is."""
    first = TEXT + 0x100000
    world = World(rows={0x1000: Row.STOP, 0x101000: rule()}, pc=first, stack=[pc])
    world.mappings = [(TEXT, TEXT + 0x1000), (first, first + 0x1000)]

    assert world.walk().fault == fault


def test_the_newest_pc_is_looked_up_as_it_is():
    world = World(rows={0x1000: Row.STOP}, mappings=[(TEXT, TEXT + 1)])

    assert world.walk().fault == Fault.NONE
    world.pc += 1
    assert world.walk().fault == Fault.NO_MAPPING
    world.return_address = True
    assert world.walk().fault == Fault.NONE


def test_address_spaces_do_not_see_one_another_and_can_be_dropped():
    world = World(rows={0x1000: Row.STOP})
    tables = world.tables()
    tables.set_process(PID, 11, 12, SPACE + 1)

    assert parse(HostUnwinder(tables).unwind(world.deferred())).fault == Fault.NO_MAPPING
    assert (tables.drop_space(SPACE + 1), tables.drop_space(SPACE)) == (0, 1)


def test_overlapping_mappings_are_refused():
    tables = HostTables()
    tables.add_mapping(1, 0x2000, 0x3000)
    for start, end in [(0x1000, 0x2001), (0x2FFF, 0x4000), (0x2100, 0x2200), (0x1000, 0x4000)]:
        with pytest.raises(ValueError, match="File exists"):
            tables.add_mapping(1, start, end)
    tables.add_mapping(1, 0x1000, 0x2000)
    tables.add_mapping(1, 0x3000, 0x4000)
    tables.add_mapping(2, 0x2000, 0x3000)


def test_a_hash_in_memory_keeps_what_was_written_while_others_come_and_go():
    """Processes come and go for as long as the agent runs; the table must not fill up."""
    world = World(rows={0x1000: Row.STOP})
    tables = world.tables()
    for pid in range(1000, 21_000):
        tables.set_process(pid, 1, 2, 9)
        assert tables.delete(lib.OA_HOST_PROCESSES, struct.pack("=I", pid))

    assert not tables.delete(lib.OA_HOST_PROCESSES, struct.pack("=I", 1000))
    assert parse(HostUnwinder(tables).unwind(world.deferred())).fault == Fault.NONE
