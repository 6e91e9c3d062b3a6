# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files that commands will map, guessed; the oracle is what this very process has mapped."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from otelagent.processes import forecast
from otelagent.processes.forecast import foresee, preload
from tests.processes.fakes import Machine, elf

PYTHON = SimpleNamespace(eval_loop=())
PROGRAM = os.path.realpath(sys.executable)


def mapped_at_start():
    """Files that this process has mapped, the program and its libraries among them."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}


def script(folder, first_line, name="script"):
    path = folder / name
    path.write_text(f"{first_line}\n")
    path.chmod(0o755)
    return str(path)


def test_program_its_loader_and_its_libraries():
    found = [str(path) for path in foresee([sys.executable])]

    assert found[0] == PROGRAM
    names = {Path(path).name.split(".so")[0] for path in found}
    assert {"libc", "libm"} <= names
    assert any("ld-linux" in path for path in found)
    assert set(found) <= mapped_at_start()


@pytest.mark.parametrize(
    "line", ["#!{}", "#! {} -I", "#!/usr/bin/env {}", "#!/usr/bin/env -S A=1 {} -I"]
)
def test_script_is_run_by_what_its_first_line_names(tmp_path, line):
    command = script(tmp_path, line.format(sys.executable))

    assert str(next(foresee([command]))) == PROGRAM


@pytest.mark.parametrize("told", [(), ("-i",), ("A=1", "B=2")])
def test_program_that_env_execs(told):
    assert str(next(foresee(["env", *told, sys.executable, "-c", "pass"]))) == PROGRAM
    assert list(foresee(["env", *told])) == []


def test_script_that_is_run_by_a_script(tmp_path):
    inner = script(tmp_path, f"#!{sys.executable}", "inner")

    assert str(next(foresee([script(tmp_path, f"#!{inner}")]))) == PROGRAM


@pytest.mark.parametrize(
    "before", ["nice -n 19", "timeout -k 5 60s", "taskset -c 0-1 nice", "nohup", "env A=1 nice -5"]
)
def test_program_that_something_else_execs(before):
    assert str(next(foresee([*before.split(), sys.executable, "-c", "pass"]))) == PROGRAM


@pytest.mark.parametrize("line", ["#!", "#!/usr/bin/env", "#!{self}", "#!/nowhere/at/all", "\0\0"])
def test_command_that_leads_nowhere_has_no_files(tmp_path, line):
    itself = str(tmp_path / "script")

    assert list(foresee([script(tmp_path, line.format(self=itself))])) == []


def test_command_that_is_not_there_has_no_files():
    assert list(foresee(["no-such-command-anywhere"])) == []


def test_number_of_files_is_bounded(monkeypatch):
    monkeypatch.setattr(forecast, "MAX_FILES", 2)

    assert len(list(foresee([sys.executable]))) == 2


def test_preloaded_file_is_not_loaded_again_when_it_is_mapped(tmp_path):
    machine = Machine()
    path = tmp_path / "program"
    path.write_bytes(elf("program"))
    path.chmod(0o755)

    preload(machine.executables, [str(path)])
    [loaded] = machine.executables.by_key.values()
    machine.executables.acquire(loaded)
    machine.executables.release(loaded)

    assert machine.loads == 1
    assert loaded.stored


def test_preloading_ends_when_its_time_is_over(tmp_path):
    machine = Machine()

    preload(machine.executables, [sys.executable], -1)

    assert machine.loads == 0


def test_an_interpreter_is_loaded_first_and_however_late_it_is(tmp_path):
    machine = Machine()
    libraries = [path.name for path in foresee([sys.executable])]
    machine.executables.detect = lambda elf: PYTHON if elf.soname == "libc.so.6" else None
    told = []
    machine.executables.on_recognised = told.append

    preload(machine.executables, [sys.executable], -1)

    assert [Path(loaded.executable.path).name for loaded in told] == libraries
    stored = [loaded for loaded in told if loaded.stored]
    assert [Path(loaded.executable.path).name for loaded in stored] == ["libc.so.6"]
    assert libraries.index("libc.so.6") > 0
    assert machine.loads == 1
