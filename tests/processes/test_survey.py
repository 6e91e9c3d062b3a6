# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Interpreters that run already are known before the whole system is sampled."""

import os
import sys
from pathlib import Path

import pytest

from otelagent.processes.survey import MAX_MAPS_BYTES, meet_interpreters
from tests.processes.fakes import Machine


@pytest.fixture
def recognised():
    machine = Machine()
    found = []
    machine.executables.on_recognised = lambda loaded: found.append(loaded.executable.path)
    machine.recognised = found
    return machine


def process(proc, pid, *paths):
    """Let a process have files of this machine mapped; pids are those of nobody."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    lines = []
    for at, path in enumerate(paths):
        found = Path(path).stat() if Path(path).exists() else os.stat_result([1] * 10)
        place = f"{os.major(found.st_dev):x}:{os.minor(found.st_dev):x} {found.st_ino}"
        lines.append(f"{at + 1}000-{at + 1}800 r-xp 00000000 {place} {path}\n")
    (folder / "maps").write_text("".join(lines))


def test_the_interpreter_that_runs_this_is_met(recognised):
    """On the real /proc: whatever else runs, this is a Python."""
    meet_interpreters(recognised.executables, 5)

    names = [Path(path).name for path in recognised.recognised]
    assert any("python3" in name for name in names), names
    assert not any(name.startswith("libc.so") for name in names)


def test_other_programs_are_left_alone_and_each_file_is_met_once(recognised, tmp_path):
    python = os.path.realpath(sys.executable)
    process(tmp_path, 4_000_001, python, "/bin/sh")
    process(tmp_path, 4_000_002, python)
    process(tmp_path, 4_000_003, "/bin/sh")
    (tmp_path / "self").mkdir()
    (tmp_path / "4000004").mkdir()  # gone by now

    meet_interpreters(recognised.executables, 5, tmp_path)

    assert recognised.recognised == [python]
    assert not recognised.loads  # their rows are loaded when they are sampled


def test_a_file_that_is_not_there_any_more_is_passed_over(recognised, tmp_path):
    process(tmp_path, 4_000_001, "/nowhere/python3.99")
    process(tmp_path, 4_000_002, os.path.realpath(sys.executable))

    meet_interpreters(recognised.executables, 5, tmp_path)

    assert recognised.recognised == [os.path.realpath(sys.executable)]


def test_it_ends_in_time_and_reads_little_of_each_process(recognised, tmp_path):
    process(tmp_path, 4_000_001, os.path.realpath(sys.executable))
    meet_interpreters(recognised.executables, -1, tmp_path)
    assert not recognised.recognised

    maps = tmp_path / "4000001" / "maps"
    maps.write_text(" " * MAX_MAPS_BYTES + "\n" + maps.read_text())
    meet_interpreters(recognised.executables, 5, tmp_path)
    assert not recognised.recognised
