# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What /proc says of the threads of a process, and who may trace it."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from otelagent.abi._generated import Reg
from otelagent.errors import NotPermitted, ProcessGone, TargetError
from otelagent.formats.elf import EM_AARCH64, EM_X86_64
from otelagent.formats.registers import GP_COUNT, Registers

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "disk sleep",
    "T": "stopped",
    "t": "traced",
    "Z": "ended",
    "X": "ended",
    "I": "idle",
    "P": "parked",
}
_ENDED = "ended"
# `[<0>] do_nanosleep+0x65/0x100 [module]`
_KERNEL_FRAME = re.compile(r"^\[<[0-9a-f]+>\] ([^\s+]+)(?:\+\S+)?(?: (\[\S+\]))?$", re.MULTILINE)
_TRACER = re.compile(rb"^TracerPid:\s*(\d+)$", re.MULTILINE)
_MAX_STACK_CHARS = 64 << 10
_STACK_POINTERS = {EM_X86_64: Reg.X86_RSP, EM_AARCH64: Reg.ARM_SP}


@dataclass(frozen=True, slots=True)
class Task:
    """A thread as /proc shows it.

    Attributes:
        tid: Its number.
        name: Its name.
        state: In one word.
        kernel: Functions of the kernel that it waits in, newest first; a function of a
            module ends with ` [module]`.
        stack_pointer: Where it entered the kernel; 0 if it runs, or may not be read.
        pc: Likewise.
    """

    tid: int
    name: str = ""
    state: str = ""
    kernel: tuple[str, ...] = ()
    stack_pointer: int = 0
    pc: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether it only waits for somebody to notice its end."""
        return self.state == _ENDED

    def is_where(self, registers: Registers) -> bool:
        """Tell whether a thread with these registers is still in the same call of the kernel."""
        return bool(self.pc) and registers.pc == self.pc and self.stack_pointer in registers.gp

    def entry_registers(self) -> Registers | None:
        """Give the two registers that are known of a thread that waits in the kernel."""
        if not self.pc:
            return None
        gp = [0] * GP_COUNT
        gp[_STACK_POINTERS[_machine()]] = self.stack_pointer
        return Registers(tuple(gp), self.pc, in_syscall=True)


def _machine() -> int:
    return EM_AARCH64 if os.uname().machine == "aarch64" else EM_X86_64


def read_tasks(pid: int) -> dict[int, Task]:
    """Read all threads of a process, the first one first.

    Raises:
        ProcessGone: It ended.
    """
    try:
        tids = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 (names only)
    except OSError as err:
        raise ProcessGone(f"process {pid} is gone") from err
    tids.sort(key=lambda tid: tid != pid)
    return {tid: read_task(pid, tid) for tid in tids}


def read_task(pid: int, tid: int) -> Task:
    """Read one thread; what cannot be read stays empty."""
    stat = _read(pid, tid, "stat")
    head, _, rest = stat.rpartition(")")
    state = _STATES.get(rest[1:2], "unknown")
    kernel: tuple[str, ...] = ()
    stack_pointer = pc = 0
    if state not in {"running", _ENDED}:
        stack = _KERNEL_FRAME.findall(_read(pid, tid, "stack"))
        kernel = tuple(f"{name} {module}".rstrip() for name, module in stack)
        stack_pointer, pc = _parse_syscall(_read(pid, tid, "syscall"))
    return Task(tid, head.partition("(")[2], state, kernel, stack_pointer, pc)


def _read(pid: int, tid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/task/{tid}/{name}", errors="replace") as stream:  # noqa: PTH123 (hot)
            return stream.read(_MAX_STACK_CHARS)
    except OSError:
        return ""


def _parse_syscall(text: str) -> tuple[int, int]:
    """Read the last two words of `/proc/PID/task/TID/syscall`: stack pointer and pc."""
    words = text.split()
    if len(words) < 3:
        return 0, 0  # "running"
    try:
        return int(words[-2], 16), int(words[-1], 16)
    except ValueError:
        return 0, 0


def require_tracing(pid: int, tid: int = 0) -> None:
    """Make sure that we may trace a process, before anything is done for it.

    `tid` is a thread of it that lives, if the first one does not.

    Raises:
        NotPermitted: We may not; the hint says who may.
        ProcessGone: It ended.
    """
    try:
        # Asks what PTRACE_SEIZE asks: PTRACE_MODE_ATTACH (fs/proc/base.c).
        os.close(os.open(f"/proc/{tid or pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError as err:
        raise _not_permitted(pid) from err
    except OSError as err:
        raise ProcessGone(f"process {pid} is gone") from err


def refusal(pid: int, error: int) -> Exception:
    """Say why not one thread of a process could be stopped, by the errno of ptrace."""
    if error == errno.ESRCH:
        return ProcessGone(f"process {pid} is gone")
    if error != errno.EPERM:
        return TargetError(f"process {pid} cannot be stopped: {os.strerror(error)}")
    tracer = read_tracer(pid)
    if tracer:
        name = _read(tracer, tracer, "comm").strip()
        hint = "end that first, or use --nonblocking"
        return TargetError(f"process {pid} is being traced by {name} ({tracer})", hint=hint)
    if pid == os.getpid():
        return TargetError("a process cannot stop itself", hint="use --nonblocking")
    return _not_permitted(pid)


def read_tracer(pid: int) -> int:
    """Read who traces a process; 0 if nobody does."""
    try:
        found = _TRACER.search(Path(f"/proc/{pid}/status").read_bytes())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _not_permitted(pid: int) -> NotPermitted:
    try:
        scope = int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        scope = 0
    hints = {
        0: "its own user may, and root (CAP_SYS_PTRACE)",
        1: "its own user may only with kernel.yama.ptrace_scope=0 (now 1), and root may",
        2: "only root may (kernel.yama.ptrace_scope is 2)",
        3: "nobody may until the next boot: kernel.yama.ptrace_scope is 3",
    }
    return NotPermitted(f"process {pid} may not be traced", hint=hints.get(scope, hints[0]))
