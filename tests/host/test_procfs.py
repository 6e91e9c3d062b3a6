# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What /proc says of ourselves and of our children."""

import mmap
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from otelagent.errors import ProcessGone
from otelagent.formats.proc_maps import parse_executable
from otelagent.host import procfs
from otelagent.host.files import open_mapped
from otelagent.host.memory import ProcessMemory


def test_a_process_that_nobody_reaped_has_ended():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert procfs.has_ended(child.pid)
    child.wait()
    assert procfs.has_ended(child.pid)


def test_a_running_process_has_not_ended():
    assert not procfs.has_ended(os.getpid())


def test_a_thread_has_a_leader_and_a_process_is_its_own():
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), done.wait()))
    thread.start()
    ready.wait()
    try:
        assert procfs.leader_of(thread.native_id) == os.getpid()
        assert procfs.leader_of(os.getpid()) == os.getpid()
    finally:
        done.set()
        thread.join()


def test_there_is_no_leader_of_nobody():
    with pytest.raises(ProcessGone):
        procfs.leader_of(1 << 30)


LEADERLESS = """
import ctypes, os, sys, threading
def other():
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=other).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def leaderless():
    """A process whose first thread has ended while another runs: (pid, what it printed)."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LEADERLESS], **pipes) as process:
        said = process.stdout.readline()
        deadline = time.monotonic() + 10
        while not procfs.other_thread(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield process.pid, said
        process.stdin.write(b"x")


def test_mappings_of_a_process_whose_first_thread_has_ended(leaderless):
    pid, _ = leaderless

    assert not procfs.has_ended(pid)
    assert procfs.other_thread(pid) not in {0, pid}
    paths = {mapped.path for mapped in procfs.read_maps(pid)}
    assert "[vdso]" in paths
    assert any("libc.so" in path for path in paths)


def test_files_of_a_process_whose_first_thread_has_ended(leaderless):
    pid, _ = leaderless
    mapped = next(each for each in procfs.read_maps(pid) if "libc.so" in each.path)

    where = (mapped.start, mapped.end, mapped.path)
    with open_mapped(pid, *where, dev=0, inode=mapped.inode) as source:
        assert source.read_at(0, 4) == b"\x7fELF"


def test_memory_of_a_process_whose_first_thread_has_ended(leaderless):
    pid, _ = leaderless
    mapped = next(each for each in procfs.read_maps(pid) if "libc.so" in each.path)

    assert len(ProcessMemory(pid).read(mapped.start, 16)) == 16


def test_a_running_process_needs_no_other_thread():
    assert procfs.other_thread(os.getpid()) == 0
    assert procfs.other_thread(1 << 30) == 0


def test_a_process_that_is_gone_has_no_mappings():
    child = subprocess.Popen(["true"])
    child.wait()

    with pytest.raises(ProcessGone):
        procfs.read_maps(child.pid)


def test_mappings_come_by_address_and_once(tmp_path):
    file = tmp_path / "rwxp rwxs b.so"
    file.write_bytes(bytes(4096))
    with (
        file.open("rb") as source,
        mmap.mmap(source.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC),
    ):
        found = procfs.read_maps(os.getpid())
        every = list(parse_executable(Path("/proc/self/maps").read_bytes()))

    assert found == every
    assert sum(each.path == str(file) for each in found) == 1


def test_a_zombie_has_no_mappings():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    try:
        found = procfs.read_maps(child.pid)
    except ProcessGone:
        found = []
    child.wait()
    assert found == []


def test_vdso_is_an_elf_file():
    assert procfs.read_vdso().startswith(b"\x7fELF")


def test_names_and_kernel_threads():
    assert procfs.read_comm(os.getpid())
    assert procfs.read_comm(1 << 30) == ""
    assert not procfs.is_kernel_thread(os.getpid())
    with pytest.raises(ProcessGone):
        procfs.is_kernel_thread(1 << 30)
