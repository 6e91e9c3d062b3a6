# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real program's stack, unwound by rows from its own and the C library's CFI."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from otelagent.abi._generated import Fault
from otelagent.unwind.host import HostUnwinder
from tests.unwind.images import Image

SOURCE = Path(__file__).parent / "programs" / "chain.c"
FLAGS = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"]


@pytest.fixture(scope="module", params=["-pie", "-no-pie", "-static"])
def program(request, tmp_path_factory):
    if not shutil.which("cc") or not shutil.which("nm"):
        pytest.skip("needs a C compiler and nm")
    path = tmp_path_factory.mktemp("chain") / "chain"
    pie = "-fPIE" if request.param == "-pie" else "-fno-pie"
    subprocess.run(["cc", *FLAGS, pie, request.param, "-o", path, SOURCE], check=True)
    return path


def unwind(program, scenario, max_frames=1024):
    """Give the functions of the stack, newest first, and why it ended."""
    out = program.with_name("out")
    result = subprocess.run([program, scenario, out], capture_output=True, check=True)
    image = Image.of(result.stdout)
    unwinder = HostUnwinder(image.tables, max_user_frames=max_frames)
    return image.walk(unwinder, out.read_bytes())


def ours(names):
    """Drop what the C library's own functions are called, which differs."""
    keep = re.compile(r"snapshot|gamma_step|in_\w+|compare|on_signal|faulting|main|_start")
    return [name for name in names if keep.fullmatch(name)]


@pytest.mark.parametrize(
    ("scenario", "chain"),
    [
        ("plain", ["gamma_step"]),
        ("deep", ["gamma_step"] * 41),
        ("alloca", ["gamma_step", "in_alloca"]),
        ("qsort", ["gamma_step", "gamma_step", "compare", "in_qsort"]),
        ("signal", ["gamma_step", "gamma_step", "on_signal", "faulting", "in_signal"]),
    ],
)
def test_the_whole_stack_has_the_functions_that_were_called(program, scenario, chain):
    names, fault = unwind(program, scenario)

    assert (ours(names), fault) == (["snapshot", *chain, "main", "_start"], Fault.NONE)


def test_a_thread_ends_where_it_began(program):
    names, fault = unwind(program, "thread")

    assert (ours(names), fault) == (["snapshot", *["gamma_step"] * 3, "in_thread"], Fault.NONE)


def test_a_stack_deeper_than_the_copy_keeps_its_newest_frames(program):
    names, fault = unwind(program, "cut")

    assert fault == Fault.DEFERRED_CUT
    assert set(names[1:]) == {"wide_step"}
    assert len(names) > 300
