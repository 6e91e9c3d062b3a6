# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The processes thread: events before reports, deferred stacks when their code is known."""

import os
import struct
import time
from types import SimpleNamespace

import pytest

from otelagent import metrics
from otelagent.abi._generated import Fault, ReportReason
from otelagent.abi.codec import Report
from otelagent.bpf.sideband import EventKind
from otelagent.processes.table import GRACE_NS
from otelagent.processes.worker import (
    COMPANY_MS,
    IDLE_COMPANY_MS,
    MAX_HOLD_NS,
    MAX_POSTED_REPORTS,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    PATIENCE_ROUNDS,
    ProcessesThread,
)
from tests.bpf.rings import trace
from tests.processes.fakes import (
    Machine,
    event,
    exec_event,
    exit_event,
    generation,
    mapped,
    mmap_event,
)

CODE = 0x5000_0000_0000


HEAD = struct.calcsize("=QQQIIHHI16s")


def finished(fault):
    data = bytearray(trace(1))
    struct.pack_into("=H", data, HEAD + struct.calcsize("=QIIQHH"), fault)
    return bytes(data)


class FakeSideband:
    """Gives one list of events a drain."""

    def __init__(self):
        self.batches = []
        self.has_more = self.came = False

    def watch(self, fd):
        pass

    def wait(self, _timeout_ms, _company_ms):
        time.sleep(0.01)

    def refresh(self):
        return self.came

    def drain(self):
        return self.batches.pop(0) if self.batches else []


class World:
    """A thread that is not started: `round` does what it does between two sleeps."""

    def __init__(self):
        self.drained_ns = time.monotonic_ns()
        self.machine = Machine(wants_all=True)
        self.machine.file(1, "/bin/a")
        self.sideband = FakeSideband()
        self.unwound, self.finished, self.python, self.ksymbols = [], [], [], []
        self.fault, self.last_stack = Fault.NONE, b""
        self.thread = ProcessesThread(
            self.machine.table,
            self.sideband,
            SimpleNamespace(unwind=self._unwind),
            on_finished=self.finished.append,
            on_python=self.python.append,
            on_ksymbol=self.ksymbols.append,
            is_alive=lambda _pid: False,
            drained_ns=lambda: self.drained_ns,
        )

    def _unwind(self, deferred, space, *, is_last):
        self.unwound.append(space.number if space else 0)
        self.was_last = is_last
        self.last_stack = deferred
        return finished(self.fault)

    def round(self, *events):
        self.sideband.batches.append(list(events))
        self.thread._round()


@pytest.fixture
def world():
    return World()


def deferred(pid=10, time_ns=50):
    data = bytearray(trace(1))
    struct.pack_into("=Q", data, 8, time_ns)
    struct.pack_into("=QII", data, HEAD, 1000, 1, pid)
    return bytes(data)


def report(pid=10, time_ns=50, reason=ReportReason.NEW, addr=0):
    return Report(time_ns, addr, generation(pid), pid, reason)


def test_events_of_a_full_drain_and_of_the_next_one_come_before_the_reports(world):
    """An exec that only the second drain had was applied after a report of the new program."""
    first = [exec_event(10, 20), mmap_event(10, 21, CODE)]
    second = [exec_event(10, 30), mmap_event(10, 31, CODE)]
    world.sideband.batches = [first, second]
    more = [True, False]
    drain = world.sideband.drain

    def drain_one():
        world.sideband.has_more = more.pop(0) if more else False
        return drain()

    world.sideband.drain = drain_one
    world.thread.post(report(time_ns=50))
    world.thread._round()

    entry = world.machine.table.entries[10]
    assert [life.since_ns for life in entry.lives] == [0, 20, 30]
    assert entry.now.generation == generation(10)


@pytest.mark.parametrize(("wants_all", "waits_ms"), [(False, 1), (True, IDLE_COMPANY_MS)])
def test_events_that_follow_a_report_wait_less_where_targets_are_few(world, wants_all, waits_ms):
    """Who has just begun an image maps its code now; the whole system always has such."""
    world.machine.table.wants_all = wants_all
    world.thread.post(report())

    world.round()

    assert world.thread._company_ms() == waits_ms


def test_what_happened_before_a_report_is_applied_before_it(world):
    world.thread.post(report())

    world.round(exec_event(10, 40), mmap_event(10, 41, CODE))

    assert world.machine.scans == 0  # its mappings were told
    assert world.machine.found(10, CODE)
    assert world.python == [report()]


def test_what_ended_is_kept_until_its_samples_have_come(world):
    """On a starved machine events are seen at once, and the ring a minute later."""
    now = time.monotonic_ns()
    long_ago = now - 2 * GRACE_NS
    events = [exec_event(10, long_ago - 9), mmap_event(10, long_ago - 8, CODE)]
    world.drained_ns = long_ago
    world.round(*events, exit_event(10, long_ago))
    world.thread._refresh()
    world.thread.post(deferred(time_ns=long_ago - 1))
    world.thread.post(report(time_ns=long_ago - 1))

    world.drained_ns = now
    world.round()
    (space,) = world.unwound
    world.thread._refresh()

    assert space
    assert not world.machine.table.entries


def test_a_reader_that_stands_still_does_not_keep_everything(world):
    world.drained_ns = 0
    ended = time.monotonic_ns() - MAX_HOLD_NS - 2 * GRACE_NS
    world.round(exec_event(10, ended - 9), exit_event(10, ended))

    world.thread._refresh()

    assert not world.machine.table.entries


def test_where_a_cpu_came_processes_are_read_again(world):
    """What happened on it before its events were listened to is not known."""
    world.machine.maps[10] = [mapped(CODE)]
    world.thread.post(report())
    world.round()

    world.thread._refresh()
    assert world.machine.space(10)
    world.sideband.came = True
    world.thread._refresh()
    assert not world.machine.space(10)


def test_what_was_told_before_a_cpu_came_is_doubtful_too(world):
    """On that CPU another exec may have followed, of which nothing is told."""
    world.sideband.batches.append([exec_event(10, 20), mmap_event(10, 21, CODE)])
    world.sideband.came = True

    world.thread._refresh()

    assert not world.machine.table.entries[10].now.is_complete


def test_a_wake_up_that_was_asked_for_is_not_asked_for_again(world, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "eventfd_write", lambda *arguments: calls.append(arguments))

    world.thread.post(report(10))
    world.thread.post(report(11))
    assert len(calls) == 1

    world.round()
    world.thread.post(report(12))
    assert len(calls) == 2


def test_missing_python_thread_is_no_reason_to_look_at_mappings(world):
    told = report(reason=ReportReason.PY_THREAD)
    world.thread.post(told)

    world.round()

    assert not world.machine.table.entries
    assert world.python == [told]


def test_deferred_stack_waits_for_its_code(world):
    world.machine.maps[10] = [mapped(CODE)]
    world.thread.post(deferred())
    world.round()
    assert not world.finished

    world.thread.post(report())
    world.round()

    assert len(world.finished) == 1
    assert world.unwound == [world.machine.space(10)]


def test_deferred_stack_of_a_process_that_nobody_knows_is_finished_all_the_same(world):
    world.thread.post(deferred())

    for _ in range(PATIENCE_ROUNDS):
        world.round()
    assert not world.finished
    world.round()

    assert len(world.finished) == 1
    assert world.unwound == [0]


def test_only_the_last_try_takes_what_is_unknown_for_no_code(world):
    """Code that has just been mapped may not be known yet, and looks like a wild pointer."""
    world.fault = Fault.NO_MAPPING
    world.thread.post(deferred())
    world.round(exec_event(10, 40), mmap_event(10, 41, CODE))
    assert world.unwound
    assert not world.was_last

    for _ in range(PATIENCE_ROUNDS):
        world.round()

    assert world.was_last
    assert len(world.finished) == 1


def test_deferred_stack_that_meets_an_unknown_mapping_is_tried_again(world):
    world.fault = Fault.NO_MAPPING
    world.thread.post(deferred())
    world.round(exec_event(10, 40), mmap_event(10, 41, CODE))
    assert not world.finished

    world.fault = Fault.NONE
    world.round(mmap_event(10, 49, CODE + 0x100000))

    assert len(world.finished) == 1
    assert len(world.unwound) == 2


def test_deferred_stacks_wait_while_events_are_still_to_come(world):
    world.sideband.has_more = True
    world.thread.post(deferred())
    world.round(exec_event(10, 40), mmap_event(10, 41, CODE))
    assert not world.unwound

    world.sideband.has_more = False
    world.round()
    assert len(world.finished) == 1


def test_too_many_and_malformed_deferred_stacks_are_counted(world):
    dropped = metrics.deferred_dropped.total
    for _ in range(MAX_WAITING + 3):
        world.thread.post(deferred())
    world.round()
    assert metrics.deferred_dropped.total == dropped + 3

    for _ in range(PATIENCE_ROUNDS):
        world.round()
    assert len(world.finished) == MAX_WAITING
    world.thread.post(b"short")
    world.round()
    assert metrics.deferred_dropped.total == dropped + 4


def test_reports_that_nobody_takes_are_bounded_and_counted(world):
    dropped = metrics.reports_dropped.total
    for _ in range(MAX_POSTED_REPORTS + 2):
        world.thread.post(report())

    assert metrics.reports_dropped.total == dropped + 2
    world.round()
    assert len(world.python) == MAX_POSTED_REPORTS


def test_deferred_stacks_are_bounded_in_bytes_too(world):
    dropped = metrics.deferred_dropped.total
    large = deferred() + os.urandom(MAX_WAITING_BYTES // 2)
    for _ in range(2):
        world.thread.post(large)
        world.round()

    assert metrics.deferred_dropped.total == dropped + 1
    for _ in range(PATIENCE_ROUNDS):
        world.round()
    world.thread.post(large)
    world.round()
    assert metrics.deferred_dropped.total == dropped + 1


def test_many_large_deferred_stacks_are_packed_and_come_out_as_they_were(world):
    """A large library takes seconds to read; all that runs in it waits for that long."""
    dropped = metrics.deferred_dropped.total
    count = 4 * MAX_WAITING_BYTES // 100_000
    stacks = [deferred() + number.to_bytes(4, "little") * 25_000 for number in range(count)]
    for stack in stacks:
        world.thread.post(stack)
    for _ in range(PATIENCE_ROUNDS + 1):
        world.round()

    assert metrics.deferred_dropped.total == dropped
    assert len(world.finished) == count
    assert world.last_stack == stacks[-1]


def test_kernel_symbols_are_passed_on(world):
    told = event(EventKind.KSYMBOL, 0, 5, addr=0xFFFF, length=8)

    world.round(told)

    assert world.ksymbols == [told]


def test_kernel_symbols_do_not_make_the_next_round_come_sooner(world):
    """Others load BPF programs; only what is told of processes is followed by more of it."""
    world.machine.table.wants_all = False
    world.round(mmap_event(10, 41, CODE))
    after_mapping = world.thread._company_ms()

    world.round(event(EventKind.KSYMBOL, 0, 5, addr=0xFFFF, length=8))

    assert (after_mapping, world.thread._company_ms()) == (COMPANY_MS, IDLE_COMPANY_MS)


def test_ending_finishes_what_was_posted(world):
    world.thread.start()
    world.thread.post(deferred())

    world.thread.end()

    assert world.thread.error is None
    assert not world.thread.is_alive()
    assert len(world.finished) == 1


def test_thread_that_dies_keeps_why(world):
    def fail(_report):
        raise RuntimeError("a bug")

    world.thread._on_python = fail
    world.thread.start()
    world.thread.post(report())

    deadline = time.monotonic() + 5
    while world.thread.error is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert str(world.thread.error) == "a bug"
    world.thread.end()
