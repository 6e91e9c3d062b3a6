# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The main job under every kernel, with all it has and with less: quick, guests are emulated."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from integration.conftest import is_there
from integration.deny import RAW_TRACEPOINT_OPEN
from integration.lacking import MASK_BTF, NO_TRACEFS, RAW, TICKS, lacking
from integration.recording import WORKLOADS, build_c, record
from otelagent.bpf.btf import btf_available
from otelagent.kernel.features import has_feature

pytestmark = [pytest.mark.guest, pytest.mark.needs("bpf", "cpu_clock", "tool:cc")]

DEPTHS = (3, 12, 30)
CHAINS = {("_start", "main", *["descend"] * depth, "middle", "leaf") for depth in DEPTHS}
# The profiler and what it samples share one CPU of the host: let it be quick.
NICE = ("nice", "-n", "19") if is_there("guest") else ()
FUNCTIONS = {"_start", "main", "descend", "middle", "leaf"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build_c(tmp_path_factory.mktemp("program"), "recurse")


def record_c(folder, program, before=()):
    """Record a program whose stacks are the same three every time."""
    command = (str(program), "0.4", *map(str, DEPTHS))
    return record(folder, "-v", "-F", "199", "--", *NICE, *command, before=before)


def usual_stacks(done):
    """Stacks that are no accident: a tenth of the samples, where three have a third each."""
    return {stack for stack, count in done.stacks.items() if count > done.samples / 10}


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
    """What is recorded when nothing is withheld."""
    return record_c(tmp_path_factory.mktemp("plain"), program)


def test_stacks_of_a_c_program_are_whole(plain):
    assert plain.user_stacks > 100
    assert plain.complete_percent >= 98
    assert chains(usual_stacks(plain)) <= CHAINS <= chains(plain.stacks)


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


def test_python_frames_stand_between_those_of_c(tmp_path):
    workload = WORKLOADS / "python" / "sorting.py"

    done = record(tmp_path, "-F", "199", "--", *NICE, sys.executable, str(workload), "2")

    assert done.user_stacks > 50
    assert done.complete_percent >= 97, done.said
    assert done.share("<module>", "outer", "list_sort", "key", "leaf") > 0.3


@pytest.mark.needs("guest")
def test_whole_system_sees_every_process(tmp_path, program):
    other = program.with_name("other")
    other.write_bytes(program.read_bytes())
    other.chmod(0o755)
    running = [subprocess.Popen([*NICE, path, "600", "5"]) for path in (program, other)]

    try:
        done = record(tmp_path, "-v", "--all", "-F", "99", "-d", "3")
    finally:
        for process in running:
            process.kill()
            process.wait()

    assert sum(done.of("recurse").values()) > 20
    assert sum(done.of("other").values()) > 20
    assert done.complete_percent >= 95, done.said
