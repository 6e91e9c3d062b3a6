# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The main job under every kernel, with all it has and with less: quick, guests are emulated."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.conftest import is_there
from integration.deny import RAW_TRACEPOINT_OPEN
from integration.lacking import MASK_BTF, NO_TRACEFS, RAW, TICKS, lacking
from integration.programs import copy_of
from integration.recording import WORKLOADS, Whole, record
from otelagent.bpf.btf import btf_available
from otelagent.kernel.features import has_feature

pytestmark = [pytest.mark.guest, pytest.mark.needs("bpf", "cpu_clock", "tool:cc")]

DEPTHS = (3, 12, 30)
CHAINS = {("_start", "main", *["descend"] * depth, "middle", "leaf") for depth in DEPTHS}
# The profiler and what it samples share one CPU of the host: let it be quick.
NICE = ("nice", "-n", "19") if is_there("guest") else ()
SHORT = ("0.25", *map(str, DEPTHS))
FUNCTIONS = {"_start", "main", "descend", "middle", "leaf"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return copy_of("recurse", tmp_path_factory.mktemp("program"))


def record_c(folder, program, before=(), then=()):
    """Record a program whose stacks are the same three every time, and another one after it."""
    command = [str(program), *SHORT]
    if then:
        command = ["sh", "-c", f"{shlex.join(command)}; exec {shlex.join(then)}"]
    return record(folder, "-v", "-F", "199", "--", *NICE, *command, before=before)


def usual_stacks(done):
    """Stacks that are no accident: a tenth of the samples, where three have a third each."""
    stacks = done.of("recurse")
    return {stack for stack, count in stacks.items() if count > sum(stacks.values()) / 10}


def of_the_program(stacks):
    """Without the kernel's frames: by what a sample was interrupted is a matter of luck, too."""
    return {tuple(name for name in stack if not name.endswith("_[k]")) for stack in stacks}


def assert_same_stacks(one, other):
    """What is usual in one was seen in the other; how often is a matter of luck in a guest."""
    assert of_the_program(usual_stacks(one)) <= of_the_program(other.stacks)
    assert of_the_program(usual_stacks(other)) <= of_the_program(one.stacks)


def chains(stacks):
    return {tuple(name for name in stack if name in FUNCTIONS) for stack in stacks}


def source(done):
    """Where it says that the kernel's offsets are from."""
    (line,) = (line for line in done.said.splitlines() if " kernel offsets source=" in line)
    return line.partition("source=")[2]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, program):
    """C, then Python, when nothing is withheld: each start of the profiler takes a guest 5 s."""
    python = (sys.executable, str(WORKLOADS / "python" / "sorting.py"), "2")
    return record_c(tmp_path_factory.mktemp("plain"), program, then=python)


def test_stacks_of_a_c_program_are_whole(plain):
    assert sum(plain.of("recurse").values()) > 100
    assert plain.complete_percent >= 98
    assert chains(usual_stacks(plain)) <= CHAINS <= chains(plain.of("recurse"))


def test_python_frames_stand_between_those_of_c(plain):
    stacks = {s: n for s, n in plain.stacks.items() if s[0].startswith("python")}
    done = dataclasses.replace(plain, stacks=stacks)

    assert done.samples > 50
    share = done.share("<module>", "outer", "list_sort", "key", "leaf")
    assert share > 0.3, f"{plain.said}{sorted(stacks.items(), key=lambda row: -row[1])[:9]}"


def test_no_warning_is_given(plain):
    """A kernel without tracepoints of system calls, or without BTF, lacks nothing that we need."""
    assert "WARNING" not in plain.said
    assert source(plain).startswith("BTF of the running kernel" if btf_available() else RAW)


@pytest.mark.needs("btf", "tool:unshare")
def test_without_btf_the_same_stacks_are_seen(tmp_path, program, plain):
    done = record_c(tmp_path, program, lacking(MASK_BTF))

    assert source(done) == f"{RAW} again={TICKS}"
    assert_same_stacks(done, plain)
    assert done.complete_percent >= 98
    assert "WARNING" not in done.said


@pytest.mark.needs("tool:unshare")
def test_with_no_tracepoint_at_all_the_same_stacks_are_seen(tmp_path, program, plain):
    lacks_all = not btf_available() and not has_feature("syscall_tracepoints")
    if not lacks_all and not os.environ.get("OTELAGENT_WHOLE"):
        pytest.skip("long: on the kernel that lacks BTF and tracepoints, and in make qemu-all")
    before = lacking(f"{MASK_BTF}; {NO_TRACEFS}", [RAW_TRACEPOINT_OPEN, "fsopen"])

    done = record_c(tmp_path, program, before)

    assert source(done) == TICKS
    assert_same_stacks(done, plain)
    assert "children of targets are sampled some ms after their start" in done.said


@pytest.mark.needs("guest")
def test_whole_system_sees_every_process(tmp_path, program):
    """One that was there, and one that begins later, as a child of ours.

    What uses a CPU while the profiler begins makes that twice as long: one thread of the
    host emulates all CPUs in turn.
    """
    before = subprocess.Popen([*NICE, program, "600", "5"])
    while "/libc.so" not in Path(f"/proc/{before.pid}/maps").read_text():
        time.sleep(0.01)
    before.send_signal(signal.SIGSTOP)
    later = copy_of("recurse", tmp_path, "later")

    with before, contextlib.ExitStack() as stack:
        stack.callback(before.kill)
        whole = Whole(tmp_path, 60)
        before.send_signal(signal.SIGCONT)
        subprocess.check_call([*NICE, later, *SHORT])
        before.send_signal(signal.SIGSTOP)  # and there it stays, as it would elsewhere
        whole.process.send_signal(signal.SIGINT)
        done = whole.end()

    assert sum(done.of("recurse").values()) > 20
    assert sum(done.of("later").values()) > 20
    assert done.complete_percent >= 95, done.said
