# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""At every instruction of small functions the stack is what the calls made it.

The program is stepped by ptrace; call and return instructions are counted on a stack of
our own, which each stack of the unwinder (the host build) must equal.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from otelagent.dump.stacks import ImageUnwinder
from otelagent.formats.elf import EM_X86_64, ElfFile
from otelagent.formats.registers import parse_registers
from otelagent.host.files import open_file
from otelagent.host.image import ThreadImage
from otelagent.host.live import LiveImage

SOURCE = Path(__file__).parent / "workloads" / "c" / "steps.c"
FUNCTIONS = 10
SINGLESTEP, GETREGS, DETACH, SEIZE, INTERRUPT = 9, 12, 17, 0x4206, 0x4207
RSP = 7
MAX_STEPS = 200_000

pytestmark = [
    pytest.mark.any_kernel,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="knows calls of x86-64"),
]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, pid, data=None):
    if libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")


class Stepper:
    """A process that is stepped, with the return addresses that its calls have left."""

    def __init__(self, pid):
        self.pid = pid
        self.image = LiveImage(pid)
        self.unwinder = ImageUnwinder(self.image)
        self.unwinder.prepare()
        ptrace(SEIZE, pid)
        os.kill(pid, signal.SIGCONT)
        ptrace(INTERRUPT, pid)
        self._wait()
        self._buffer = ctypes.create_string_buffer(27 * 8)
        self.read_registers()
        self.returns = self.unwind()[1:]

    def _wait(self):
        _, status = os.waitpid(self.pid, 0)
        return os.WIFSTOPPED(status)

    def read_registers(self):
        ptrace(GETREGS, self.pid, self._buffer)
        self.registers = parse_registers(EM_X86_64, self._buffer.raw)
        self.pc, self.sp = self.registers.pc, self.registers.gp[RSP]

    def unwind(self):
        """Give the addresses of the stack, newest first; the file is mapped where it says."""
        (raw,) = self.unwinder.walk([ThreadImage(self.pid, registers=self.registers)])
        assert raw.fault == 0, hex(self.pc)
        return [word & (1 << 48) - 1 for _, word in raw.words()]

    def step(self):
        """Go one instruction on; False if the process has ended."""
        code = self.image.read(self.pc, 4)
        sp = self.sp
        ptrace(SINGLESTEP, self.pid)
        if not self._wait():
            return False
        self.read_registers()
        if is_call(code) and self.sp == sp - 8:
            self.returns.insert(0, struct.unpack("<Q", self.image.read(self.sp, 8))[0])
        elif code[0] in (0xC3, 0xC2) or code[:2] in (b"\xf3\xc3", b"\xf2\xc3"):
            assert self.pc == self.returns.pop(0)
        return True


def is_call(code):
    at = 1 if 0x40 <= code[0] < 0x50 or code[0] == 0xF2 else 0
    return code[at] == 0xE8 or (code[at] == 0xFF and code[at + 1] >> 3 & 7 == 2)


def functions(program):
    """List where the functions to look at are: name → (start, end)."""
    with open_file(str(program)) as source:
        elf = ElfFile(source)
        names = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
        wanted = [line.split()[2] for line in names.splitlines() if " step_" in line]
        found = elf.find_symbols(*wanted)
    return {name: (each.value, each.value + each.size) for name, each in found.items()}


def instructions(program, ranges):
    """List the addresses of all instructions of functions but padding."""
    dump = subprocess.run(["objdump", "-d", program], capture_output=True, text=True, check=True)
    found = set()
    for line in dump.stdout.splitlines():
        parts = line.split("\t")
        if len(parts) < 3 or parts[2].startswith(("nop", "cs nop", "data16", "xchg   %ax,%ax")):
            continue
        addr = int(parts[0].strip().rstrip(":"), 16)
        if any(start <= addr < end for start, end in ranges):
            found.add(addr)
    return found


def walk_all(program):
    """Step through the program; returns the instructions looked at and what was wrong."""
    ranges = functions(program)
    assert len(ranges) >= FUNCTIONS
    seen, wrong = set(), []
    with subprocess.Popen([program]) as process:
        try:
            until = time.monotonic() + 10
            while "T" not in Path(f"/proc/{process.pid}/stat").read_text().split()[2]:
                assert time.monotonic() < until
                time.sleep(0.01)
            stepper = Stepper(process.pid)
            for _ in range(MAX_STEPS):
                if not stepper.step():
                    break
                if any(start <= stepper.pc < end for start, end in ranges.values()):
                    seen.add(stepper.pc)
                    if stepper.unwind() != [stepper.pc, *stepper.returns]:
                        wrong.append(hex(stepper.pc))
        finally:
            process.kill()
    return seen, wrong, instructions(program, ranges.values())


def check(tmp_path, compiler, level):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    program = tmp_path / "steps"
    flags = [f"-{level}", "-static", "-no-pie", "-fno-pie"]
    subprocess.run([compiler, *flags, "-o", program, SOURCE], check=True)

    seen, wrong, every = walk_all(program)

    assert wrong == []
    assert len(seen & every) >= 0.95 * len(every), f"{len(seen & every)} of {len(every)} were run"


def test_every_instruction_has_the_stack_that_its_calls_made(tmp_path):
    check(tmp_path, "gcc", "O2")


@pytest.mark.sweep
@pytest.mark.parametrize("level", ["O0", "O1", "O2", "O3", "Os"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_instruction_of_every_build_has_its_stack(tmp_path, compiler, level):
    check(tmp_path, compiler, level)
