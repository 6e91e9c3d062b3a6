# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Interpreters that call one another on one C stack: whose Python frames lie where."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from integration.test_python import PYTHONS, WORKLOADS, profile, python_lines

SHARED = [python for python in PYTHONS if python.origin == "pyenv"]
OFTEN = ("3.9",)
"""Others by `make accuracy`."""


@pytest.fixture
def program(tmp_path, request):
    """The program that embeds one of pyenv's CPythons, built with it."""
    home = Path(request.param.command[0]).parents[1]
    minor = request.param.version
    [headers] = home.glob(f"include/python{minor}*")
    binary = tmp_path / "switching"
    flags = [f"-I{headers}", f"-L{home}/lib", f"-l{headers.name}", f"-Wl,-rpath,{home}/lib"]
    source = WORKLOADS / "switching.c"
    subprocess.run(["cc", "-O2", source, "-o", binary, *flags, "-lpthread"], check=True)
    return binary, {"PYTHONHOME": str(home)}


LASTING, FLEETING = 1_000_000, 100
EVERY = pytest.mark.parametrize(
    ("program", "rounds"),
    [
        pytest.param(
            python,
            rounds,
            id=f"{python.name}-{rounds}",
            marks=[pytest.mark.sweep] * (python.version not in OFTEN),
        )
        for python in SHARED
        for rounds in (LASTING, FLEETING)
        # Later ones do not tell in memory which state has the GIL.
        if rounds == LASTING or int(python.version[2:]) < 12
    ],
    indirect=["program"],
)


def say_wrong(names):
    """Say what is wrong with a stack: it must be step0, step1… from its first frame on."""
    steps = [name for name in names if name not in ("inner", "leaf")]
    if steps != [f"step{depth}" for depth in reversed(range(len(steps)))]:
        return f"not a path: {steps}"
    return "" if "leaf" not in names[1:] else "leaf calls nothing"


@pytest.mark.needs("tool:cc")
@EVERY
def test_frames_lie_where_their_interpreter_was_called(program, rounds):
    """Two threads, three interpreters that come again; states that are made anew after rounds."""
    binary, env = program
    with subprocess.Popen([binary, "2", str(rounds)], env=env) as child:
        try:
            traces = profile(child.pid, until=200, frequency_hz=499)
        finally:
            child.kill()

    found = Counter()
    for trace, count in traces:
        names = [name for name, _, _ in python_lines(trace)]
        if names and names[-1] == "step0":
            found[say_wrong(names) or trace.fault] += count
            found["with leaf"] += count * (names[0] == "leaf")
        elif names and any(name.startswith(("step", "inner")) for name in names):
            found[f"ends in {names[-1]}"] += count
    leaves = found.pop("with leaf")
    assert found[""] >= 100
    # A state that was made anew is not known for a moment.
    least = 0.97 if rounds == LASTING else 0.9
    assert found[""] >= least * found.total(), found
    assert leaves >= 0.75 * found[""]  # nearly all of its time is spent there
