# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPythons that commands and their scripts mention, found without running anything."""

import sys
from pathlib import Path

import pytest

from otelagent.processes import mentions
from otelagent.processes.forecast import foresee
from otelagent.processes.mentions import find_pythons

ELF = b"\x7fELF\0\0\0\0"


def program(path, content=ELF):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A `python3.9` that is on PATH, alone."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    return program(tmp_path / "bin" / "python3.9")


@pytest.mark.parametrize(
    "text", ["python3.9 -m json.tool; true", "x=1 python3.9", "if a; then (python3.9 x)|cat; fi"]
)
def test_word_of_a_shells_command(python, text):
    assert find_pythons(["sh", "-c", text], []) == [python]


@pytest.mark.parametrize("name", ["run.sh", "./run.sh"])
def test_word_of_a_script_that_is_an_argument(python, name):
    Path("run.sh").write_text('PY="$PWD"\npython3.9 x.py "$1"\n')

    assert find_pythons(["bash", "-e", name], []) == [python]


def test_word_of_a_script_that_is_the_command_itself(tmp_path):
    text = f"#!/bin/sh\nPROGRAM={sys.executable}\nsleep 0\n$PROGRAM x.py\n"
    script = program(tmp_path / "run", text.encode())

    assert Path(sys.executable).resolve() in list(foresee([str(script)]))


def test_script_run_by_python_that_another_one_runs(python):
    program(python.with_name("tool"), f"#!{python} -I\n".encode())
    program(python.with_name("other"), b"#!/bin/sh\n")

    assert find_pythons(["make", "tool", "other"], []) == [python]


def test_virtual_environment_that_is_activated(python, tmp_path):
    own = program(tmp_path / "venv" / "bin" / "python")
    own.with_name("activate").write_text("VIRTUAL_ENV=...\n")

    assert find_pythons(["sh", "-c", ". venv/bin/activate && tool"], []) == [
        Path("venv/bin/python")
    ]


@pytest.fixture
def shim(python, tmp_path, monkeypatch):
    root = tmp_path / "pyenv"
    for version in ("3.7.1", "3.9.2", "3.9.10"):
        for name in ("python", "python3"):
            program(root / "versions" / version / "bin" / name)
    text = f'#!/usr/bin/env bash\nexport PYENV_ROOT="{root}"\nexec pyenv exec "$program"\n'
    monkeypatch.delenv("PYENV_VERSION", raising=False)
    return program(root / "shims" / "python3", text.encode())


@pytest.mark.parametrize(("told", "chosen"), [("3.7.1", ["3.7.1"]), ("9:3.7.1", ["3.7.1"])])
def test_shim_follows_the_variable(shim, monkeypatch, told, chosen):
    monkeypatch.setenv("PYENV_VERSION", told)

    assert [path.parts[-3] for path in find_pythons([str(shim)], [])] == chosen


def test_shim_follows_the_nearest_file(shim, tmp_path, monkeypatch):
    (shim.parents[1] / "version").write_text("3.9.2\n")
    assert [path.parts[-3] for path in find_pythons([str(shim)], [])] == ["3.9.2"]

    (tmp_path / ".python-version").write_text("3.7\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    assert [path.parts[-3] for path in find_pythons([str(shim)], [])] == ["3.7.1"]


@pytest.mark.parametrize("version", ["../../elsewhere", "*", "/etc"])
def test_version_that_is_none_leads_nowhere(shim, monkeypatch, version):
    monkeypatch.setenv("PYENV_VERSION", version)

    assert find_pythons([str(shim)], []) == []


def test_what_is_looked_at_is_bounded(python, monkeypatch):
    monkeypatch.setattr(mentions, "MAX_WORDS", 3)

    assert find_pythons(["a", "b", "c", "d", "python3.9"], []) == []
    assert find_pythons(["a", "python3.9"], []) == [python]


@pytest.mark.parametrize("command", [[], [""], ["#!"], ["\n"], ["a" * 5000], ["./x/../y", "."]])
def test_command_without_a_python_mentions_none(python, command):
    assert find_pythons(command, ["\udc80 $( `"]) == []


@pytest.mark.parametrize("other", ["python4", "python5"])
def test_scripts_that_name_one_another_end(python, other):
    path = program(python.with_name("python4"), f"#!{other}\n".encode())
    program(python.with_name("python5"), b"#!python4\n")

    assert find_pythons([str(path)], []) == []
