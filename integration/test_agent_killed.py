# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the agent at any moment: nothing of it stays in the kernel, and the spool is whole."""

import ctypes
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from integration.runs import OTELAGENT, otelagent, wait_until
from otelagent.export.spool import SpoolBacklog
from tests.export.receivers import HttpReceiver

SPIN = "while True: sum(i * i for i in range(1000))"
PINS = Path("/sys/fs/bpf")
BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
# BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID, BPF_LINK_GET_FD_BY_ID (include/uapi/linux/bpf.h)
GET_BY = {"prog_id": 13, "map_id": 14, "link_id": 30}
_ID = re.compile(r"^(prog_id|map_id|link_id):\s*(\d+)$", re.MULTILINE)
libc = ctypes.CDLL(None, use_errno=True)


def held_by(pid):
    """What of BPF a process that stands still has open: (kind, id)."""
    found = set()
    for each in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):  # it is being closed
            found.update((kind, int(number)) for kind, number in _ID.findall(each.read_text()))
    return found


def is_there(kind, number):
    attributes = (ctypes.c_uint32 * 32)(number)
    fd = libc.syscall(BPF, GET_BY[kind], attributes, ctypes.sizeof(attributes))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def wait_for_the_end(held):
    """Programs first: a table of tail calls that is looked at before it was emptied stays for ever.

    Its last descriptor's end asks for that with a reference that the work gives back
    (`prog_array_map_clear`, kernel/bpf/arraymap.c); asked twice before the work begins, as by
    who opens it for a look, it does so once.
    """
    maps = {each for each in held if each[0] == "map_id"}
    for some in (held - maps, maps):
        wait_until(lambda some=some: not any(is_there(*each) for each in some), f"end of {some}")


@pytest.fixture
def spinning():
    process = subprocess.Popen([sys.executable, "-S", "-c", SPIN])
    yield process.pid
    process.kill()
    process.wait()


def kill_at(seconds, pid, spool, url, *, is_loaded):
    """Start an agent, kill it so long after that, or after it loaded; gives what it held."""
    options = ("-p", str(pid), "-collection-agent", url, "-spool", str(spool), "-q")
    options += ("-samples-per-second=99", "-reporter-interval=50ms")
    with subprocess.Popen([*OTELAGENT, "agent", *options]) as agent:
        if is_loaded:
            wait_until(lambda: held_by(agent.pid), "a BPF program")
        time.sleep(seconds)
        agent.send_signal(signal.SIGSTOP)
        held = held_by(agent.pid)
        agent.kill()
    return held


def run(rounds, seed, spinning, spool):
    rng = random.Random(seed)
    before = set(PINS.iterdir()) if PINS.is_dir() else set()
    most = 0
    for number in range(rounds):
        # Every other time nobody takes what is sent, so that there is a spool.
        with HttpReceiver() as receiver:
            url = receiver.url if number % 2 else "http://127.0.0.1:9"
            held = kill_at(rng.random(), spinning, spool, url, is_loaded=number % 4 > 0)
        most = max(most, len(held))
        wait_for_the_end(held)
        check_spool(spool)
    assert most > 10  # it had something to leave behind
    assert (set(PINS.iterdir()) if PINS.is_dir() else set()) == before


def check_spool(spool):
    backlog = SpoolBacklog(str(spool), 1 << 30)
    queued, read = backlog.queued.requests, 0
    while backlog.claim():
        read += 1
        backlog._claimed = None  # it stays
    lost = backlog.lost()
    backlog.close()
    assert (read, lost) == (queued, [])
    assert not list(Path(spool).glob("*.part"))


def end_cleanly(spinning, spool):
    """The next agent delivers what was left, and accounts for it."""
    with HttpReceiver() as receiver:
        status, _, said = otelagent(
            *("agent", "-p", spinning, "-collection-agent", receiver.url),
            *("-spool", spool, "-d", "1", "-reporter-interval=200ms"),
        )
    assert (status, receiver.faults) == (0, [])
    assert "0 (0 samples) dropped + 0 (0 samples) queued" in said
    assert "unaccounted" not in said
    assert "WARNING" not in said


def test_nothing_stays_behind(spinning, tmp_path):
    run(3, time.time_ns(), spinning, tmp_path / "spool")
    end_cleanly(spinning, tmp_path / "spool")


@pytest.mark.sweep
def test_nothing_stays_behind_a_hundred_times(spinning, tmp_path):
    run(100, 20261122, spinning, tmp_path / "spool")
    end_cleanly(spinning, tmp_path / "spool")
