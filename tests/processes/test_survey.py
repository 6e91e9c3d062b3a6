# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What runs already is known before the whole system is sampled."""

import os
import sys
from pathlib import Path

import pytest

from otelagent.processes.survey import MAX_MAPS_BYTES, Survey
from tests.processes.fakes import Machine


@pytest.fixture
def recognised():
    machine = Machine()
    found = []
    machine.executables.on_recognised = lambda loaded: found.append(loaded.executable.path)
    machine.recognised = found
    return machine


def meet_interpreters(executables, seconds, proc=Path("/proc")):
    """Look at all, as far as it reaches; returns what was kept."""
    kept = {}
    survey = Survey(executables, lambda pid, lines, _: kept.update({pid: lines}), proc=proc)
    survey.go_on(seconds)
    return kept


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
    process(tmp_path, 4_000_001, "/bin/sh")
    process(tmp_path, 4_000_002, "/bin/sh")
    assert len(meet_interpreters(recognised.executables, -1, tmp_path)) == 1

    process(tmp_path, 4_000_003, os.path.realpath(sys.executable))
    maps = tmp_path / "4000003" / "maps"
    maps.write_text(" " * MAX_MAPS_BYTES + "\n" + maps.read_text())
    meet_interpreters(recognised.executables, 5, tmp_path)
    assert not recognised.recognised


def test_what_processes_have_mapped_is_kept_a_few_at_a_time(recognised, tmp_path):
    for pid in (4_000_001, 4_000_002, 4_000_003):
        process(tmp_path, pid, "/bin/sh")
    maps = tmp_path / "4000001" / "maps"
    code = maps.read_bytes()
    maps.write_bytes(
        b"0500-0800 rw-p 00000000 0:0 0 \n" + code + b"f000-f800 r--p 0 0:0 0 /bin/sh\n"
    )
    (tmp_path / "4000004").mkdir()
    (tmp_path / "4000004" / "maps").touch()  # a kernel thread
    kept, slices = {}, 1

    def keep(pid, lines, _now_ns):
        kept[pid] = lines

    survey = Survey(recognised.executables, keep, {4_000_001, 4_000_003, 4_000_004}, tmp_path)
    while survey.go_on(0):
        slices += 1

    assert kept[4_000_001] == code
    assert kept.keys() == {4_000_001, 4_000_003}  # the other one is not wanted
    assert slices == 4


def test_a_process_whose_mappings_were_not_read_to_their_end_is_not_kept(recognised, tmp_path):
    process(tmp_path, 4_000_001, "/bin/sh")
    maps = tmp_path / "4000001" / "maps"
    maps.write_bytes(maps.read_bytes() + b" " * MAX_MAPS_BYTES)

    assert meet_interpreters(recognised.executables, 5, tmp_path) == {}


def test_memory_for_it_is_bounded(recognised, tmp_path, monkeypatch):
    for pid in range(4_000_001, 4_000_009):
        process(tmp_path, pid, "/bin/sh")
    size = len((tmp_path / "4000001" / "maps").read_bytes())
    monkeypatch.setattr("otelagent.processes.survey.MAX_KEPT_BYTES", 3 * size + 1)

    assert len(meet_interpreters(recognised.executables, 5, tmp_path)) == 3
