# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Processes whose events are kept until they are sampled know the same as if told at once."""

from collections import defaultdict

from hypothesis import example, given, settings
from hypothesis import strategies as st

from otelagent.bpf.sideband import EventKind
from tests.processes.fakes import (
    Machine,
    exec_event,
    exit_event,
    fork_event,
    generation,
    mapped,
    mmap_event,
)

CODE, LIBRARY = 0x5000_0000_0000, 0x7000_0000_0000


class Keeper:
    """`Kept`, without its bounds."""

    is_on = True

    def __init__(self):
        self.kept = defaultdict(list)
        self.let_in = set()
        self.forgotten = 0

    def recall(self, pid):
        self.let_in.add(pid)
        return self.kept.pop(pid, [])

    def let_go(self, pid):
        self.let_in.discard(pid)

    def purge(self, before_ns):
        pass

    def distrust(self):
        self.forgotten += 1
        self.kept.clear()

    def feed(self, table, events):
        for each in events:
            if each.pid in self.let_in or each.kind == EventKind.LOST:
                table.apply([each])
            else:
                self.kept[each.pid].append(each)


def machine_of_all(kept):
    machine = Machine(wants_all=True, **({"kept": kept} if kept else {}))
    machine.file(1, "/bin/a")
    machine.file(2, "/lib/b")
    return machine


PIDS = st.integers(10, 13)
STEPS = st.one_of(
    st.tuples(st.just("fork"), PIDS, PIDS),
    st.tuples(st.just("exec"), PIDS),
    st.tuples(st.just("map"), PIDS, st.integers(0, 3), st.integers(1, 2)),
    st.tuples(st.just("sample"), PIDS),
)


def play(machine, keeper, steps):
    """Let a history happen; gives what was known of each process when it was sampled."""
    known = []
    generations = defaultdict(lambda: (1000, 1))
    for time_ns, (what, pid, *rest) in enumerate(steps, 100):
        if what == "fork" and pid != rest[0]:
            events = [fork_event(pid, rest[0], time_ns)]
            generations[rest[0]] = (time_ns, 1)
        elif what == "exec":
            events = [exec_event(pid, time_ns)]
            generations[pid] = (generations[pid][0], generations[pid][1] + 1)
        elif what == "map":
            path = b"/bin/a" if rest[1] == 1 else b"/lib/b"
            events = [
                mmap_event(pid, time_ns, LIBRARY + rest[0] * 0x10000, inode=rest[1], path=path)
            ]
        else:
            events = []
        keeper.feed(machine.table, events) if keeper else machine.table.apply(events)
        if what == "sample":
            machine.table.reported(generation(pid, *generations[pid]), 0, time_ns)
            space = machine.table.entries[pid].now.space
            names = [(each.start, each.loaded.executable.path) for each in space.mappings]
            known.append(
                (pid, names, [machine.found(pid, each.start)[:3] for each in space.mappings])
            )
    return known


def elders(pid, parents):
    """List whom a process was forked from, and so on."""
    found = []
    while pid in parents:
        found.append(pid := parents[pid])
    return found


@settings(max_examples=60, deadline=None)
@example([("fork", 10, 11), ("fork", 10, 11), ("map", 10, 0, 1), ("sample", 11)])
@given(st.lists(STEPS, max_size=25))
def test_what_is_sampled_is_known_as_if_told_at_once(steps):
    """But for what a parent that is known maps between a fork and the child's first sample."""
    # All begin with an exec, so that nothing has to be read from /proc.
    in_order, parents, known = [("exec", pid) for pid in range(10, 14)], {}, set()
    for step in steps:
        what, pid = step[:2]
        if (what == "fork" and pid >= step[2]) or (what == "map" and pid in known):
            continue
        if what == "fork" and pid in parents.values() and parents.get(step[2]) != pid:
            continue  # siblings: sampling one makes the parent known
        if what == "fork":
            parents[step[2]] = pid
        if what == "sample":  # what a parent has mapped since is its children's, too, but for this
            younger = [child for child in range(13, pid, -1) if pid in elders(child, parents)]
            in_order += [("sample", child) for child in younger if child not in known]
            known |= {pid, *elders(pid, parents), *younger}
        in_order.append(step)
    keeper = Keeper()

    assert play(machine_of_all(keeper), keeper, in_order) == play(
        machine_of_all(None), None, in_order
    )


def test_who_is_never_sampled_costs_nothing():
    keeper = Keeper()
    machine = machine_of_all(keeper)

    keeper.feed(machine.table, [exec_event(10, 1), mmap_event(10, 2, CODE), exit_event(10, 3)])

    assert not machine.table.entries
    assert not machine.executables.by_inode


def test_a_child_knows_its_parents_code_of_when_it_was_forked():
    """The parent, never sampled, has run something else since."""
    keeper = Keeper()
    machine = machine_of_all(keeper)
    keeper.feed(
        machine.table,
        [
            exec_event(10, 1),
            mmap_event(10, 2, CODE),
            fork_event(10, 11, 5),
            exec_event(10, 8),
            mmap_event(10, 9, CODE, inode=2, path=b"/lib/b"),
        ],
    )

    machine.table.reported(generation(11), CODE, 20)

    assert machine.table.images[generation(11)] == "/bin/a"
    assert machine.table.is_ready(generation(11), 20)
    assert machine.table.entries[11].now.space.find(CODE).loaded.executable.path == "/bin/a"
    assert machine.scans == 0


def test_a_stack_that_waits_lets_its_process_in():
    keeper = Keeper()
    machine = machine_of_all(keeper)
    keeper.feed(machine.table, [exec_event(10, 1), mmap_event(10, 2, CODE)])

    assert machine.table.is_ready(generation(10), 3)
    assert machine.table.space_at(generation(10), 3)


def test_who_ended_is_let_go():
    keeper = Keeper()
    machine = machine_of_all(keeper)
    keeper.feed(machine.table, [exec_event(10, 1), mmap_event(10, 2, CODE)])
    machine.table.reported(generation(10), CODE, 3)
    keeper.feed(machine.table, [exit_event(10, 4)])
    assert keeper.let_in == {10}

    machine.table.clean(10**12, lambda _pid: False)

    assert not keeper.let_in
    assert not machine.table.entries


def test_where_events_were_lost_what_was_kept_is_read_from_proc():
    keeper = Keeper()
    machine = machine_of_all(keeper)
    keeper.feed(machine.table, [exec_event(10, 1), mmap_event(10, 2, CODE)])
    machine.table.doubt(3)
    machine.maps[10] = [mapped(CODE, inode=2, path="/lib/b")]

    machine.table.reported(generation(10), CODE, 4)

    assert keeper.forgotten == 1
    assert machine.table.entries[10].now.space.find(CODE).loaded.executable.path == "/lib/b"


def test_a_long_line_of_processes_that_nobody_knew_ends_somewhere():
    keeper = Keeper()
    machine = machine_of_all(keeper)
    keeper.feed(machine.table, [exec_event(10, 1), mmap_event(10, 2, CODE)])
    keeper.feed(machine.table, [fork_event(pid, pid + 1, pid) for pid in range(10, 5000)])

    machine.table.reported(generation(5000), CODE, 6000)

    assert 10 < len(machine.table.entries) < 100
