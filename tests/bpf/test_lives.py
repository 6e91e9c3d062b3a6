# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Events of processes that nobody needs yet, kept in C until somebody does."""

import struct

import pytest

from otelagent import metrics
from otelagent._native import lib
from otelagent.bpf.sideband import EventKind
from tests.bpf.test_sideband import COMM, COMM_EXEC, EXIT, FORK, LOST, MMAP2, Buffers


@pytest.fixture
def kernel():
    return Kernel()


class Kernel(Buffers):
    def __init__(self):
        super().__init__(is_patient=True, keeps_lives=True)
        self.now = 0

    def _tell(self, kind, body, misc=0):
        self.now += 1
        self.put(kind, body, time_ns=self.now, misc=misc)

    def fork(self, parent, child):
        self._tell(FORK, struct.pack("=IIIIQ", child, parent, child, parent, self.now))

    def exec(self, pid, name=b"prog"):
        self._tell(COMM, struct.pack("=II", pid, pid) + name + b"\0", COMM_EXEC)

    def mmap(self, pid, name=b"/lib/x.so", inode=77, addr=0x7000):
        fields = (pid, pid, addr, 0x1000, 0, 254, 3, inode, 9, 5, 2)
        self._tell(MMAP2, struct.pack("=IIQQQIIQQII", *fields) + name + b"\0")

    def exit(self, pid):
        self._tell(EXIT, struct.pack("=IIIIQ", pid, 1, pid, 1, self.now))

    def told(self):
        return [(event.kind.name, event.pid) for event in self.sideband.drain()]

    def recalled(self, pid):
        return [(event.kind.name, event.pid) for event in self.sideband.recall(pid)]

    def bytes(self):
        return lib.oa_lives_bytes(self.sideband._lives)


def test_what_nobody_needs_is_not_told(kernel):
    kernel.fork(1, 5)
    kernel.exec(5)
    kernel.mmap(5)
    kernel.exit(5)

    assert kernel.told() == []


def test_who_is_let_in_has_its_life_until_now_and_is_told_of_from_now_on(kernel):
    kernel.fork(1, 5)
    kernel.exec(5)
    kernel.mmap(5, b"/lib/a b")
    kernel.mmap(6)
    kernel.told()

    fork, execed, mapped = kernel.sideband.recall(5)
    assert (fork.kind, fork.ppid, fork.is_new_process) == (EventKind.FORK, 1, True)
    assert execed.kind == EventKind.EXEC
    assert (mapped.name, mapped.addr, mapped.inode) == (b"/lib/a b", 0x7000, 77)
    assert [fork.time_ns, execed.time_ns, mapped.time_ns] == [1, 2, 3]
    assert kernel.recalled(5) == []

    kernel.mmap(5)
    kernel.exit(5)
    assert kernel.told() == [("MMAP", 5), ("EXIT", 5)]


def test_two_processes_keep_apart_also_where_their_numbers_meet_in_the_table(kernel):
    kernel.exec(5)
    kernel.exec(5 + 4096)
    kernel.mmap(5 + 4096)
    kernel.told()

    assert kernel.recalled(5) == [("EXEC", 5)]
    assert kernel.recalled(5 + 4096) == [("EXEC", 4101), ("MMAP", 4101)]


def test_who_is_let_go_is_kept_again(kernel):
    kernel.sideband.recall(5)
    kernel.sideband.let_go(5)
    kernel.exec(5)

    assert kernel.told() == []
    assert kernel.recalled(5) == [("EXEC", 5)]


def test_a_process_whose_beginning_was_not_seen_is_not_kept(kernel):
    """What it has mapped besides would be missing: it is read from /proc when it matters."""
    kernel.mmap(5)

    assert kernel.told() == []
    assert kernel.recalled(5) == []


def test_the_first_fork_of_one_that_is_in_is_told(kernel):
    kernel.sideband.recall(5)
    kernel.fork(5, 6)
    kernel.fork(5, 7)

    assert kernel.told() == [("FORK", 6)]
    assert kernel.recalled(6) == [("FORK", 6)]
    assert kernel.recalled(7) == [("FORK", 7)]


def test_a_file_that_may_be_python_is_told_of_once(kernel):
    kernel.exec(5)
    kernel.mmap(5, b"/usr/bin/python3.11", 10)
    kernel.mmap(5, b"/lib64/ld-linux-x86-64.so.2", 11)
    kernel.exec(6)
    kernel.mmap(6, b"/lib64/ld-linux-x86-64.so.2", 11)
    kernel.mmap(6, b"/lib64/libc.so.6", 12)

    assert kernel.told() == [("MMAP", 5), ("MMAP", 5)]
    assert kernel.recalled(6) == [("EXEC", 6), ("MMAP", 6), ("MMAP", 6)]


def test_after_a_loss_nothing_that_was_kept_is_believed(kernel):
    kernel.exec(5)
    kernel._tell(LOST, struct.pack("=QQ", 1, 3))
    lost = metrics.sideband_lost.total

    assert kernel.told()[0][0] == "LOST"
    assert metrics.sideband_lost.total == lost + 3
    assert kernel.recalled(5) == []


def test_who_has_ended_is_forgotten_after_a_while(kernel):
    empty = kernel.bytes()
    kernel.exec(5)
    kernel.exit(5)
    kernel.exec(6)
    kernel.told()

    kernel.sideband.purge(-7)  # the machine began less than that ago
    kernel.sideband.purge(2)
    assert kernel.recalled(5) == [("EXEC", 5), ("EXIT", 5)]
    kernel.sideband.let_go(5)
    kernel.exec(7)
    kernel.exit(7)
    kernel.told()
    kernel.sideband.purge(100)
    assert kernel.recalled(7) == []
    assert kernel.recalled(6) == [("EXEC", 6)]
    kernel.sideband.recall(8)
    assert kernel.bytes() == empty


def test_a_number_that_was_given_again_is_not_forgotten(kernel):
    kernel.exec(5)
    kernel.exit(5)
    kernel.fork(1, 5)
    kernel.told()

    kernel.sideband.purge(100)

    assert kernel.recalled(5)[-1] == ("FORK", 5)


def test_who_maps_too_much_is_read_elsewhere(kernel):
    kernel.exec(5)
    for at in range(300):
        kernel.mmap(5, addr=0x7000 + at * 0x1000)
        kernel.told()

    assert kernel.recalled(5) == []


def test_all_that_is_kept_is_bounded(kernel):
    for pid in range(1, 6000):
        kernel.exec(pid)
        kernel.mmap(pid, b"/" + b"x" * 200)
        kernel.told()

    assert kernel.bytes() < 9 << 20
    assert kernel.recalled(1) == [("EXEC", 1), ("MMAP", 1)]
