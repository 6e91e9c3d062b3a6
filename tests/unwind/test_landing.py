# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Stacks while libgcc installs the context of the frame with the handler."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from otelagent.abi._generated import Fault, Limit
from otelagent.unwind.host import HostUnwinder
from otelagent.unwind.landing import Landing, find_landing
from tests.unwind.images import REGS_BYTES, Image
from tests.unwind.walks import IS_X86

pytestmark = pytest.mark.skipif(not IS_X86, reason="libgcc's code of x86-64")
SOURCE = Path(__file__).parent / "programs" / "landing.cc"
STEP_BYTES = REGS_BYTES + 4096
ADDR, INSTALL = 0x10000, 0x9000
CFA = -0xA0


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return {flag: build(flag, tmp_path_factory.mktemp("landing")) for flag in ("-pie", "-static")}


def build(flag, where):
    if not shutil.which("g++") or not shutil.which("nm"):
        pytest.skip("needs a C++ compiler and nm")
    path = where / "landing"
    flags = ["-std=c++17", "-O2", "-fomit-frame-pointer", flag]
    subprocess.run(["g++", *flags, "-o", path, SOURCE], check=True)
    return path


@pytest.mark.parametrize(
    ("flag", "scenario"),
    [
        ("-pie", "plain"),
        ("-pie", "rethrow"),
        ("-pie", "cleanup"),
        ("-pie", "into-cleanup"),
        ("-static", "cleanup"),
    ],
)
def test_every_instruction_on_the_way_to_a_landing_pad_has_a_whole_stack(programs, flag, scenario):
    """The program single-steps itself; the last 400 instructions before the handler count."""
    program = programs[flag]
    out = program.with_name("out")
    result = subprocess.run([program, scenario, out], capture_output=True, check=True)
    image = Image.of(result.stdout)
    unwinder = HostUnwinder(image.tables)
    data = out.read_bytes()
    handler = "WithFramePointer" if scenario == "into-cleanup" else "Catcher"

    steps = [data[at : at + STEP_BYTES] for at in range(0, len(data), STEP_BYTES)]
    walks = [image.walk(unwinder, step, Limit.RED_ZONE_BYTES) for step in steps]

    assert len(walks) == 400
    for at, (names, fault) in enumerate(walks):
        assert (names[-1], fault) == ("_start", Fault.NONE), f"step {at}: {names}"
        assert sum(handler in name for name in names) == 1, f"step {at}: {names}"
        assert "main" in names


def mov(opcode: bytes, disp: int) -> bytes:
    return opcode + struct.pack("<i", disp)


def function(cfa=CFA, *, context=CFA - 144, landing_pad=CFA + 8, target=INSTALL, restore=True):
    """What GCC makes of uw_install_context, with a call of something else right before."""
    head = mov(b"\x48\x8d\xb5", context)  # lea context(%rbp),%rsi
    head += b"\xe8" + struct.pack("<i", 0x5000 - ADDR - len(head) - 5)
    head += b"\xe8" + struct.pack("<i", target - ADDR - len(head) - 5)
    tail = mov(b"\x4c\x8b\xad", landing_pad)  # mov landing_pad(%rbp),%r13
    tail += b"\x48\x89\xe8"  # 0xe8 in an instruction that is no call
    tail += mov(b"\x48\x8b\xbd", cfa) + b"\xe8\0\0\0\0"
    return head, tail + (b"\x48\x8b\x6d\x00" if restore else b"") + b"\x48\x89\xcc\xc3"


def is_code(addr):
    return 0x1000 <= addr < 0x20000


def test_the_call_before_the_context_is_read_is_the_one_that_installs_it():
    head, tail = function()

    landing = find_landing(head + tail, ADDR, is_code)

    after = ADDR + len(head)
    assert landing == Landing(after, after + len(tail) - 4, INSTALL, CFA)


@pytest.mark.parametrize(
    "given",
    [
        {"context": CFA - 136},
        {"landing_pad": CFA + 16},
        {"restore": False},
    ],
    ids=str,
)
def test_code_that_is_not_quite_like_it_is_left_alone(given):
    head, tail = function(**given)

    assert find_landing(head + tail, ADDR, is_code) is None


def test_a_target_outside_of_the_code_is_no_call():
    head, tail = function(target=0x40000)

    landing = find_landing(head + tail, ADDR, is_code)

    assert landing is None or landing.target == 0x5000


def test_any_bytes_are_safe():
    head, tail = function()
    code = head + tail
    for at in range(len(code)):
        find_landing(code[:at], ADDR, is_code)
        find_landing(code[at:], ADDR, is_code)
