# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads as /proc shows them, and why one may not be traced."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otelagent.abi._generated import Reg
from otelagent.errors import NotPermitted, ProcessGone, TargetError
from otelagent.formats.registers import Registers
from otelagent.host import tasks
from otelagent.host.tasks import Task

STACK = """[<0>] do_sys_poll+0x42/0x5f0
[<0>] nfs_wait.isra.0+0x1/0x2 [nfs]
[<0>] entry_SYSCALL_64_after_hwframe
"""


@pytest.fixture
def proc(monkeypatch):
    """Files of one thread, by name."""
    files = {"stat": "5 (a) b) S 1 1", "stack": STACK, "syscall": "7 0x1 0x2 0x7ffd10 0x401000\n"}
    monkeypatch.setattr(tasks, "_read", lambda _pid, _tid, name: files.get(name, ""))
    return files


def test_a_waiting_thread_shows_where_it_entered_the_kernel(proc):
    task = tasks.read_task(5, 5)

    assert (task.name, task.state) == ("a) b", "sleeping")
    names = ("do_sys_poll", "nfs_wait.isra.0 [nfs]", "entry_SYSCALL_64_after_hwframe")
    assert task.kernel == names
    registers = task.entry_registers()
    assert (registers.pc, registers.in_syscall) == (0x401000, True)
    assert 0x7FFD10 in (registers.gp[Reg.X86_RSP], registers.gp[Reg.ARM_SP])


@pytest.mark.parametrize("text", ["running\n", "", "-1 0x0\n", "7 1 2 x y\n"])
def test_without_a_place_there_are_no_registers(proc, text):
    proc["syscall"] = text

    assert tasks.read_task(5, 5).entry_registers() is None


def test_a_thread_that_went_on_is_not_in_the_same_call():
    task = Task(5, stack_pointer=0x100, pc=0x400)
    gp = (0,) * 7 + (0x100,) + (0,) * 24

    assert task.is_where(Registers(gp, 0x400))
    assert not task.is_where(Registers(gp, 0x404))
    assert not task.is_where(Registers((0,) * 32, 0x400))
    assert not Task(5).is_where(Registers((0,) * 32, 0))


def test_threads_of_a_process_begin_with_the_first():
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    try:
        found = tasks.read_tasks(os.getpid())
        assert next(iter(found)) == os.getpid()
        assert thread.native_id in found
    finally:
        gate.set()
        thread.join()


def test_errors_of_ptrace_become_what_the_user_can_do():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    assert isinstance(tasks.refusal(child.pid, errno.ESRCH), ProcessGone)
    assert str(tasks.refusal(1, errno.EIO)) == "process 1 cannot be stopped: Input/output error"
    assert isinstance(tasks.refusal(os.getpid(), errno.EPERM), TargetError)
    with pytest.raises(ProcessGone):
        tasks.read_tasks(child.pid)
    with pytest.raises(ProcessGone):
        tasks.require_tracing(child.pid)


@pytest.mark.parametrize(
    ("scope", "hint"), [("1", "ptrace_scope=0"), ("2", "only root"), ("3", "nobody")]
)
def test_the_hint_follows_yama(monkeypatch, scope, hint):
    monkeypatch.setattr(Path, "read_text", lambda _path: scope + "\n")
    monkeypatch.setattr(tasks, "read_tracer", lambda _pid: 0)

    refused = tasks.refusal(1, errno.EPERM)

    assert isinstance(refused, NotPermitted)
    assert refused.exit_status == 77
    assert hint in refused.hint
