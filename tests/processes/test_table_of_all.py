# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lives of processes where all are wanted: most end before they are sampled."""

import pytest

from otelagent.errors import ProcessGone
from otelagent.processes.table import MAX_UNREAD
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


@pytest.fixture
def table_of_all():
    machine = Machine(wants_all=True)
    machine.file(1, "/bin/a")
    machine.file(2, "/lib/b")
    return machine, machine.table


def entry_key(machine, path):
    return next(k for k, f in machine.executables.by_key.items() if f.executable.path == path)


def test_child_that_is_gone_is_told_of_by_its_parent(table_of_all):
    """A shell that was never sampled forks, and its child execs or ends before it is read."""
    machine, table = table_of_all
    machine.maps[10] = [mapped(CODE)]
    table.apply([fork_event(10, 11, 20), fork_event(10, 12, 20), exec_event(11, 30)])
    table.apply([mmap_event(11, 31, CODE, inode=2, path=b"/lib/b")])
    machine.maps[12] = ProcessGone("process 12 is gone")

    table.reported(generation(11), CODE, 25)
    table.reported(generation(12), CODE, 26)

    for pid in (11, 12):
        life = table.entries[pid].at(25)
        assert table.is_ready(generation(pid), 25)
        assert life.space.find(CODE).loaded.executable.path == "/bin/a"
    assert table.images[generation(11)] == "/bin/a"
    table.reported(generation(11, exec_id=2), CODE, 32)
    assert table.entries[11].now.space.find(CODE).loaded.executable.path == "/lib/b"


def test_parent_that_is_another_by_now_tells_nothing(table_of_all):
    machine, table = table_of_all
    machine.maps[10] = [mapped(CODE)]
    table.apply([fork_event(10, 11, 20), exec_event(10, 30)])
    machine.maps[11] = ProcessGone("process 11 is gone")

    table.reported(generation(11), CODE, 25)

    assert not table.is_ready(generation(11), 25)


def test_image_of_before_the_first_event_is_not_taken_for_the_next(table_of_all):
    _, table = table_of_all
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE)])

    table.reported(generation(10), CODE, 15)

    assert not table.is_ready(generation(10), 15)
    assert table.entries[10].at(15).space.find(CODE) is None
    assert table.is_ready(generation(10), 22)


def test_a_process_of_a_whole_system_costs_little_before_it_is_sampled(table_of_all):
    machine, table = table_of_all
    for pid in range(10, 20):
        table.apply([exec_event(pid, 20), mmap_event(pid, 21, CODE)])
    assert (len(machine.opened), machine.loads, len(machine.trie)) == (0, 0, 0)

    table.reported(generation(15), CODE, 22)

    assert machine.found(15, CODE)[3] == entry_key(machine, "/bin/a")
    assert (machine.loads, machine.scans, machine.space(16)) == (1, 0, 0)
    assert table.images[generation(15)] == "/bin/a"


def test_an_interpreter_is_recognised_before_it_is_sampled(table_of_all):
    """BPF can tell where the Python frames of its first sample are, then."""
    machine, table = table_of_all
    machine.file(3, "/usr/bin/python3.11")
    met = []
    machine.executables.on_recognised = lambda loaded: met.append(loaded.executable.path)

    for pid in (10, 11):
        table.apply([exec_event(pid, 20), mmap_event(pid, 21, CODE)])
        table.apply([mmap_event(pid, 22, LIBRARY, inode=3, path=b"/usr/bin/python3.11")])

    assert met == ["/usr/bin/python3.11"]
    assert (len(machine.opened), machine.loads) == (1, 0)


def test_what_is_mapped_after_the_first_sample_is_known_at_once(table_of_all):
    machine, table = table_of_all
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE)])
    table.reported(generation(10), CODE, 22)

    table.apply([mmap_event(10, 23, LIBRARY, inode=2, path=b"/lib/b")])

    assert machine.found(10, LIBRARY)[3] == entry_key(machine, "/lib/b")


def test_deferred_stack_without_a_report_finds_its_code(table_of_all):
    """Reports are limited, so one may be missing."""
    machine, table = table_of_all
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE)])

    assert table.is_ready(generation(10), 22)
    assert machine.trie.find(table.space_at(generation(10), 22).number, CODE)


def test_child_of_a_process_that_was_not_sampled_has_its_code_and_then_its_own(table_of_all):
    machine, table = table_of_all
    forked = []
    table.on_fork = lambda pid, space: forked.append((pid, space.find(CODE) is not None))
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE), fork_event(10, 11, 22)])
    table.apply([mmap_event(11, 23, LIBRARY, inode=2, path=b"/lib/b")])

    table.reported(generation(11), CODE, 24)

    assert machine.found(11, CODE)[3] == entry_key(machine, "/bin/a")
    assert machine.found(11, LIBRARY)[3] == entry_key(machine, "/lib/b")
    assert forked == [(10, False), (10, True)]  # who may tell the code objects of a child
    assert machine.space(10) == 0
    table.reported(generation(10), CODE, 25)
    assert machine.found(10, LIBRARY) is None
    assert machine.scans == 0


def test_process_that_maps_much_before_it_is_sampled_is_read_from_proc(table_of_all):
    machine, table = table_of_all
    machine.maps[10] = [mapped(CODE)]
    events = [mmap_event(10, 21, LIBRARY + at * 0x10000, inode=0) for at in range(MAX_UNREAD + 9)]
    table.apply([exec_event(10, 20), *events])
    assert table.entries[10].now.space.unread is None

    table.reported(generation(10), CODE, 22)

    assert machine.scans == 1
    assert machine.found(10, CODE)
    assert machine.found(10, LIBRARY) is None


def lines_of(start, inode=1, path="/bin/a"):
    return f"{start:x}-{start + 0x4000:x} r-xp 00001000 08:01 {inode} {path}\n".encode()


def test_a_process_that_ran_before_and_is_gone_when_it_is_looked_at_is_known(table_of_all):
    machine, table = table_of_all
    table.ran_before(10, lines_of(CODE), 5)
    table.apply([mmap_event(10, 20, LIBRARY, inode=2, path=b"/lib/b"), exit_event(10, 30)])
    machine.maps[10] = ProcessGone("process 10 is gone")
    assert (machine.loads, len(machine.trie)) == (0, 0)

    assert table.is_ready(generation(10), 25)
    table.reported(generation(10), CODE, 25)

    space = table.entries[10].now.space
    assert space.find(CODE).loaded.executable.path == "/bin/a"
    assert space.find(LIBRARY).loaded.executable.path == "/lib/b"
    assert table.images[generation(10)] == "/bin/a"
    assert machine.scans == 0


def test_events_of_before_the_survey_do_not_make_it_wrong(table_of_all):
    """They are applied after it: an exec, and a process that was forked and then looked at."""
    _, table = table_of_all
    table.ran_before(10, lines_of(LIBRARY, 2, "/lib/b"), 50)
    table.ran_before(11, lines_of(LIBRARY, 2, "/lib/b"), 50)
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE), fork_event(10, 11, 30)])
    table.apply([exec_event(11, 60), mmap_event(11, 61, LIBRARY, inode=2, path=b"/lib/b")])

    for pid, at, found, missing in (
        (10, 25, CODE, LIBRARY),
        (11, 40, CODE, LIBRARY),
        (11, 62, LIBRARY, CODE),
    ):
        assert table.is_ready(generation(pid), at)
        space = table.entries[pid].at(at).space
        assert space.find(found), pid
        assert space.find(missing) is None, pid


def test_a_process_that_forked_before_it_was_looked_at_tells_of_its_child(table_of_all):
    machine, table = table_of_all
    machine.maps[11] = ProcessGone("process 11 is gone")
    table.apply([fork_event(10, 11, 20), exit_event(11, 25)])
    table.ran_before(10, lines_of(CODE), 30)

    table.reported(generation(11), CODE, 22)

    assert table.is_ready(generation(11), 22)
    assert table.entries[11].now.space.find(CODE).loaded.executable.path == "/bin/a"
    assert machine.scans == 1  # in vain


def test_what_is_known_of_a_process_stays_when_it_is_looked_at_late(table_of_all):
    machine, table = table_of_all
    machine.maps[10] = [mapped(CODE)]
    table.reported(generation(10), CODE, 20)
    table.apply([exec_event(12, 20), mmap_event(12, 21, CODE)])

    for pid in (10, 12):
        table.ran_before(pid, lines_of(LIBRARY, 2, "/lib/b"), 30)

        assert table.is_ready(generation(pid), 30)
        assert table.entries[pid].now.space.find(CODE)
        assert table.entries[pid].now.space.find(LIBRARY) is None


def test_after_lost_events_what_was_kept_is_read_anew(table_of_all):
    machine, table = table_of_all
    table.ran_before(10, lines_of(LIBRARY, 2, "/lib/b"), 5)
    table.apply([lost_event(20)])
    machine.maps[10] = [mapped(CODE)]

    table.reported(generation(10), CODE, 25)

    assert table.entries[10].now.space.find(CODE)
    assert table.entries[10].now.space.find(LIBRARY) is None


def test_known_file_is_not_opened_again_where_a_look_at_it_suffices(table_of_all):
    machine, table = table_of_all
    stamps = []
    table.files.look_mapped = lambda _pid, _mapped: stamps.pop() if stamps else None
    table.apply([exec_event(10, 20), mmap_event(10, 21, CODE)])
    table.reported(generation(10), CODE, 22)
    first, stamp = len(machine.opened), (len(machine.files[1]), 0)

    for pid, seen in ((11, stamp), (12, (1, 1)), (13, None)):
        stamps[:] = [seen]
        table.apply([exec_event(pid, 20), mmap_event(pid, 21, CODE)])
        table.reported(generation(pid), CODE, 22)
        assert len(machine.opened) == first + (pid - 11)  # changed, or not to be looked at


def test_an_exec_that_nobody_told_of_is_seen_by_its_number(table_of_all):
    """On a CPU that had gone and come: events are lost there until it is followed again."""
    machine, table = table_of_all
    machine.maps[10] = [mapped(CODE)]
    table.reported(generation(10), CODE, 5)
    table.apply([fork_event(10, 11, 20)])
    machine.maps[10] = machine.maps[11] = [mapped(CODE, inode=2, path="/lib/b")]

    for pid in (10, 11):
        table.reported(generation(pid, exec_id=2), CODE, 30)

        assert table.images[generation(pid, exec_id=2)] == "/lib/b"
        assert machine.found(pid, CODE)[3] == entry_key(machine, "/lib/b")
    assert table.images[generation(10)] == "/bin/a"
    assert machine.scans == 3


def test_an_exec_that_was_told_of_is_not_looked_for(table_of_all):
    machine, table = table_of_all
    machine.maps[10] = [mapped(CODE)]
    table.reported(generation(10), CODE, 5)

    for number in (2, 3):
        table.apply([exec_event(10, 20), mmap_event(10, 21, CODE, inode=2, path=b"/lib/b")])
        table.reported(generation(10, exec_id=number), CODE, 22)
        assert table.images[generation(10, exec_id=number)] == "/lib/b"

    assert machine.scans == 1
