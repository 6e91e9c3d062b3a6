# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The main job under every kernel: quick, since guests are emulated."""

from __future__ import annotations

import subprocess
import sys

import pytest

from integration.recording import WORKLOADS, build_c, record

pytestmark = [pytest.mark.guest, pytest.mark.needs("bpf", "cpu_clock", "tool:cc")]


def test_stacks_of_a_c_program_are_whole(tmp_path):
    program = build_c(tmp_path, "recurse")

    done = record(tmp_path, "-F", "199", "--", str(program), "2", "30")

    chain = ("_start", "main", *["descend"] * 30, "middle", "leaf")
    assert done.user_stacks > 50
    assert done.complete_percent >= 98
    assert done.share(*chain) > 0.8


def test_python_frames_stand_between_those_of_c(tmp_path):
    workload = WORKLOADS / "python" / "sorting.py"

    done = record(tmp_path, "-F", "199", "--", sys.executable, str(workload), "4")

    assert done.user_stacks > 50
    assert done.complete_percent >= 97
    assert done.share("<module>", "outer", "list_sort", "key", "leaf") > 0.3


@pytest.mark.needs("guest")
def test_whole_system_sees_every_process(tmp_path):
    program = build_c(tmp_path, "recurse")
    other = program.with_name("other")
    program.rename(other)
    program = build_c(tmp_path, "recurse")
    running = [subprocess.Popen([str(path), "60", "5"]) for path in (program, other)]

    try:
        done = record(tmp_path, "--all", "-F", "99", "-d", "6")
    finally:
        for process in running:
            process.kill()
            process.wait()

    assert sum(done.of("recurse").values()) > 50
    assert sum(done.of("other").values()) > 50
    assert done.complete_percent >= 95
