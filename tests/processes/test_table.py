# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lives of processes, told by events and reports, as BPF finds them in its maps."""

import struct
import time

import pytest

from otelagent import metrics
from otelagent.errors import ProcessGone
from otelagent.processes.spaces import MAX_ANONYMOUS
from otelagent.processes.table import GRACE_NS, RESCAN_NS
from tests.processes.fakes import (
    Machine,
    exec_event,
    exit_event,
    fork_event,
    generation,
    lost_event,
    mapped,
    mmap_event,
)

CODE = 0x5000_0000_0000
LIBRARY = 0x7000_0000_0000
LATER = 60_000_000_000


@pytest.fixture
def machine():
    machine = Machine()
    machine.file(1, "/bin/a")
    machine.file(2, "/lib/b")
    return machine


@pytest.fixture
def table(machine):
    return machine.table


def running(machine, pid=10):
    """A process that ran before we came, and was sampled."""
    machine.maps[pid] = [mapped(CODE)]
    machine.table.reported(generation(pid), CODE, 5)


def entry_key(machine, path):
    return next(k for k, f in machine.executables.by_key.items() if f.executable.path == path)


def test_first_report_reads_the_mappings_once(machine, table):
    running(machine)
    table.reported(generation(10), 0, 6)

    assert machine.scans == 1
    start, end, bias, key, unwinder, flags = machine.found(10, CODE + 0x3FFF)
    assert (start, end, bias) == (CODE, CODE + 0x4000, CODE - 0x1000)
    assert (key, unwinder, flags) == (entry_key(machine, "/bin/a"), 0, 0)
    assert machine.found(10, CODE + 0x4000) is None
    value = machine.processes[struct.pack("=I", 10)]
    assert struct.unpack("=QIIII", value) == (1000, 1, 10, machine.space(10), 0)


def test_fork_shares_the_space_until_it_maps_code(machine, table):
    running(machine)
    entries = len(machine.trie)

    table.apply([fork_event(10, 11, 20)])
    table.reported(generation(11, 2000), 0, 21)

    assert machine.scans == 1
    assert machine.space(11) == machine.space(10)
    assert len(machine.trie) == entries

    table.apply([mmap_event(11, 30, LIBRARY, inode=2, path=b"/lib/b")])

    assert machine.space(11) != machine.space(10)
    assert machine.found(11, LIBRARY)
    assert machine.found(11, CODE)
    assert machine.found(10, LIBRARY) is None


def test_parent_that_maps_code_leaves_the_child_alone(machine, table):
    running(machine)
    table.apply([fork_event(10, 11, 20)])
    table.reported(generation(11, 2000), 0, 21)

    table.apply([mmap_event(10, 30, LIBRARY, inode=2, path=b"/lib/b")])

    assert machine.found(10, LIBRARY)
    assert machine.found(11, LIBRARY) is None
    assert machine.found(11, CODE)


def test_new_thread_is_no_process(machine, table):
    running(machine)

    table.apply([fork_event(10, 10, 20)._replace(tid=12)])

    assert set(table.entries) == {10}
    assert len(table.entries[10].lives) == 1


def test_exec_begins_a_life_that_needs_no_scan(machine, table):
    running(machine)
    before = machine.space(10)

    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE, inode=2, path=b"/lib/b")])
    table.reported(generation(10, exec_id=2), CODE, 22)

    assert machine.scans == 1
    assert machine.space(10) != before
    assert machine.found(10, CODE)[3] == entry_key(machine, "/lib/b")
    assert table.images[generation(10)] == "/bin/a"
    assert table.images[generation(10, exec_id=2)] == "/lib/b"
    assert machine.gone == [10]  # its interpreter, if it had one
    assert not machine.ended


def test_kept_answers_are_forgotten_when_what_was_prepared_is_of_an_old_image(machine, table):
    machine.maps[10] = [mapped(CODE)]
    table.prepare(10, 5)
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE, inode=2, path=b"/lib/b")])
    taken = len(machine.taken)

    table.reported(generation(10, exec_id=2), CODE, 22)

    assert len(machine.taken) > taken


def test_stack_from_before_an_exec_is_finished_with_the_code_of_before(machine, table):
    running(machine)
    before = machine.space(10)
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE, inode=2)])
    table.reported(generation(10, exec_id=2), CODE, 22)

    assert table.space_at(generation(10), 19).number == before
    assert table.space_at(generation(10), 20).number == machine.space(10) != before
    assert table.is_ready(generation(10), 19)


def test_report_from_before_an_exec_that_comes_after_it_changes_nothing(machine, table):
    running(machine)
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE, inode=2)])
    table.reported(generation(10, exec_id=2), CODE, 22)
    after = dict(machine.processes)

    table.reported(generation(10), CODE + 0x100000, 19)

    assert machine.processes == after
    assert machine.scans == 1


def test_report_in_the_midst_of_exec_does_not_rename_the_old_image(machine, table):
    """The event of an exec comes a moment before the process's exec number grows."""
    running(machine)

    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE, inode=2, path=b"/lib/b")])
    table.reported(generation(10), CODE, 20)
    table.reported(generation(10, exec_id=2), CODE, 23)

    assert table.images[generation(10)] == "/bin/a"
    assert table.images[generation(10, exec_id=2)] == "/lib/b"
    assert machine.found(10, CODE)[3] == entry_key(machine, "/lib/b")


def test_reused_pid_that_nobody_told_of_begins_anew(machine, table):
    running(machine)
    machine.maps[10] = [mapped(LIBRARY, inode=2, path="/lib/b")]

    table.reported(generation(10, start_ns=9000), LIBRARY, 50)

    assert machine.found(10, LIBRARY)
    assert machine.found(10, CODE) is None
    assert machine.gone == [10]
    assert table.images[generation(10, start_ns=9000)] == "/lib/b"


def test_pid_that_is_given_to_a_new_child_forgets_its_interpreter(machine, table):
    running(machine, 10)
    running(machine, 11)

    table.apply([exit_event(11, 20), fork_event(10, 11, 30)])
    table.reported(generation(11, start_ns=30), 0, 31)

    assert machine.gone == [11]
    assert machine.space(11) == machine.space(10)
    table.clean(GRACE_NS * 2, lambda _pid: True)
    assert 11 in table.entries


def test_lost_events_make_each_process_be_read_again(machine, table):
    running(machine)
    machine.maps[10] = [mapped(CODE), mapped(LIBRARY, inode=2, path="/lib/b")]

    table.apply([lost_event(LATER)])

    assert machine.space(10) == 0  # BPF reports it again
    assert not table.is_ready(generation(10), LATER)
    table.reported(generation(10), 0, LATER)
    assert machine.scans == 2
    assert machine.found(10, LIBRARY)
    assert machine.found(10, CODE)


def test_image_after_a_lost_exec_has_its_own_name(machine, table):
    running(machine)
    machine.maps[10] = [mapped(CODE, inode=2, path="/lib/b")]

    table.apply([lost_event(LATER)])
    table.reported(generation(10, exec_id=2), CODE, LATER)

    assert table.images[generation(10)] == "/bin/a"
    assert table.images[generation(10, exec_id=2)] == "/lib/b"


def test_losing_events_all_the_while_does_not_have_a_huge_process_read_all_the_while(
    machine, table, monkeypatch
):
    monkeypatch.setattr(table, "read_maps", lambda pid: time.sleep(0.01) or machine._read_maps(pid))
    running(machine)
    for at in range(1, 5):
        table.apply([lost_event(at * 10_000_000)])
        table.reported(generation(10), 0, at * 10_000_000)

    assert machine.scans == 1
    assert machine.found(10, CODE)  # what was known still holds
    table.apply([lost_event(10**10)])
    table.reported(generation(10), 0, 10**10)
    assert machine.scans == 2


def test_code_that_is_not_found_does_not_have_a_huge_process_read_all_the_while(
    machine, table, monkeypatch
):
    """500,000 mappings are read for longer than the least time between two scans."""
    monkeypatch.setattr("otelagent.processes.table.RESCAN_NS", 1_000_000)
    monkeypatch.setattr(table, "read_maps", lambda pid: time.sleep(0.01) or machine._read_maps(pid))
    running(machine)
    for at in range(1, 8):
        table.reported(generation(10), LIBRARY, at * 10_000_000)

    assert machine.scans == 1
    table.reported(generation(10), LIBRARY, 10**10)
    assert machine.scans == 2


def test_child_of_a_doubted_parent_is_read_itself(machine, table):
    running(machine)
    machine.maps[11] = [mapped(LIBRARY, inode=2)]

    table.apply([lost_event(20), fork_event(10, 11, 21)])
    table.reported(generation(11, 2000), 0, 22)

    assert machine.scans == 2
    assert machine.found(11, LIBRARY)
    assert machine.found(11, CODE) is None
    assert table.entries[10].now.space.find(CODE)


def test_ended_process_is_kept_for_its_last_samples_then_forgotten(machine, table):
    running(machine)

    table.apply([exit_event(10, 100)])
    table.clean(100 + GRACE_NS, lambda _pid: False)
    assert table.is_ready(generation(10), 99)

    table.clean(101 + GRACE_NS, lambda _pid: False)
    assert not table.entries
    assert not machine.trie
    assert not machine.processes
    assert set(machine.executables.idle) == set(machine.executables.by_key)
    assert machine.gone == machine.ended == [10]


def test_leader_that_exits_first_does_not_end_the_process(machine, table):
    """The other threads go on; when they end, nobody tells: it is looked at again and again."""
    running(machine)
    alive = {10}

    table.apply([exit_event(10, 100)])
    for second in range(1, 20):
        table.clean(100 + second * 1_000_000_000, alive.__contains__)
    assert machine.found(10, CODE)

    alive.clear()
    table.clean(100 + 30 * 1_000_000_000, alive.__contains__)
    assert not table.entries
    assert not machine.trie


def test_exec_by_another_thread_revives_the_process(machine, table):
    """The thread takes its leader's number: the leader's exit comes first, then the exec."""
    running(machine)

    table.apply([exit_event(10, 100), exec_event(10, 101), mmap_event(10, 102, CODE, inode=2)])
    table.reported(generation(10, exec_id=2), CODE, 103)
    table.clean(100 + 2 * GRACE_NS, lambda _pid: False)

    assert machine.found(10, CODE)
    assert len(table.entries[10].lives) == 1  # the old image's is gone
    assert {struct.unpack_from(">I", key, 4)[0] for key in machine.trie} == {machine.space(10)}


def test_unknown_address_is_looked_up_at_most_once_a_second(machine, table):
    running(machine)

    for at in range(1, 50):
        table.reported(generation(10), LIBRARY, at * 10_000_000)
    assert machine.scans == 1
    machine.maps[10] = [mapped(CODE), mapped(LIBRARY, inode=2)]
    table.reported(generation(10), LIBRARY, 5 + RESCAN_NS)
    assert machine.scans == 2
    assert machine.found(10, LIBRARY)
    for at in range(1, 2000):
        table.reported(generation(10), 0x1000, RESCAN_NS + at * 10_000_000)
    assert machine.scans <= 7  # twice as long each time


def test_process_that_is_gone_when_it_is_read_is_no_failure(machine, table):
    failed = metrics.process_failed.total
    machine.maps[10] = ProcessGone("process 10 is gone")

    table.reported(generation(10), CODE, 5)

    assert machine.space(10) == 0
    assert metrics.process_failed.total == failed


def test_unseen_children_enter_only_where_all_are_wanted(machine):
    everything = Machine(wants_all=True)
    for each in (machine, everything):
        each.table.apply([exec_event(77, 5), mmap_event(77, 6, CODE)])

    assert not machine.table.entries
    assert everything.table.is_ready(generation(77), 7)


def test_file_that_cannot_be_opened_is_counted_and_the_rest_goes_on(machine, table):
    failed = metrics.mapping_failed.total
    machine.maps[10] = [mapped(CODE, inode=99, path="/gone"), mapped(LIBRARY, inode=2)]

    table.reported(generation(10), CODE, 5)

    assert metrics.mapping_failed.total == failed + 1
    assert machine.found(10, CODE)[3:] == (0, 0, 1)  # anonymous
    assert machine.found(10, LIBRARY)[3]


def test_full_map_of_mappings_is_counted_and_leaves_nothing_behind():
    machine = Machine(most_mappings=3)
    machine.file(1, "/bin/a")
    failed = metrics.mapping_failed.total
    machine.maps[10] = [mapped(CODE), mapped(LIBRARY), mapped(0x6000_0000_1000, 0x7000)]

    machine.table.reported(generation(10), CODE, 5)
    machine.table.apply([fork_event(10, 11, 20), mmap_event(11, 21, 0x1000)])

    assert metrics.mapping_failed.total > failed
    assert machine.found(10, CODE)
    machine.table.forget(11)
    assert machine.found(10, CODE)
    machine.table.forget(10)
    assert not machine.trie
    assert all(loaded.users == 0 for loaded in machine.executables.by_key.values())


def test_process_that_maps_code_without_end_stays_cheap(machine, table):
    """Each event costs the same, however many mappings there are, and their number has a cap."""
    running(machine)
    failed = metrics.mapping_failed.total
    pages = [0x10_0000_0000 + at * 0x2000 for at in range(40_000)]

    table.apply(mmap_event(10, 10 + at, page, 0x1000, inode=0) for at, page in enumerate(pages))

    assert machine.scans == 1
    assert len(table.entries[10].now.space.mappings) <= MAX_ANONYMOUS
    assert metrics.mapping_failed.total > failed
    table.apply([mmap_event(10, 90_000, LIBRARY, inode=2)])
    assert machine.found(10, LIBRARY)[3]  # a file's code still enters
    assert machine.found(10, pages[100])[:2] == (pages[100], pages[100] + 0x1000)
    table.forget(10)
    assert not machine.trie


def test_report_that_comes_after_the_end_does_not_revive_a_process(machine, table):
    """Events are drained before reports are looked at, so a short life's report comes last."""
    running(machine)

    table.apply([exit_event(10, 100)])
    table.reported(generation(10), CODE, 99)
    table.clean(101 + GRACE_NS, lambda _pid: False)

    assert not table.entries
    assert not machine.trie


def test_process_that_ended_before_it_was_read_is_forgotten(machine, table):
    machine.maps[10] = ProcessGone("process 10 is gone")

    table.reported(generation(10), CODE, 100)
    table.clean(101 + GRACE_NS, lambda _pid: False)

    assert not table.entries


def test_end_that_was_lost_is_noticed(machine, table):
    running(machine, 10)
    running(machine, 11)

    table.apply([lost_event(100)])
    table.clean(101 + GRACE_NS, {11}.__contains__)

    assert set(table.entries) == {11}
