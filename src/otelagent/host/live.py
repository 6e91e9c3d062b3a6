# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A live process as an image (`host.image.ProcessImage`), stopped while it is held.

What a stopped thread would hide (its state, what of the kernel it is in) is
read right before. Neither root nor a capability is needed where the kernel
lets one process trace the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from typing import TYPE_CHECKING

from otelagent._native import ffi, lib
from otelagent.errors import ProcessGone, TargetError
from otelagent.formats.elf import EM_AARCH64, EM_X86_64
from otelagent.formats.registers import parse_registers
from otelagent.host import files, procfs, tasks
from otelagent.host.image import ThreadImage
from otelagent.host.memory import ProcessMemory
from otelagent.host.pointers import read_pac_mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otelagent.formats.proc_maps import MappedRange
    from otelagent.host.files import FileSource
    from otelagent.host.image import MemoryTaker
    from otelagent.host.tasks import Task

QUIET_MS = 150
"""When no thread has stopped for so long, those that have not are late."""
PAGE_BYTES, _TOP = 4096, 1 << 56
MACHINES = {"x86_64": EM_X86_64, "aarch64": EM_AARCH64}
RUNNING = "it runs, and without a stop nobody can tell where"
ENDED = "it has ended, others of the process have not"
LATE = "it did not stop in time: its frames are from where it entered the kernel"


class LiveImage:
    """A live process. `held_ns` tells for how long it was stopped in all.

    Args:
        pid: The process.
        blocking: Stop its threads while it is held. If not, what is read may be torn, and
            only threads that wait in the kernel have registers.

    Raises:
        ProcessGone: There is no such process.
        NotPermitted: It may not be traced.
        TargetError: It is a kernel thread.
    """

    def __init__(self, pid: int, *, blocking: bool = True) -> None:
        self.pid = pid
        self.machine = MACHINES.get(platform.machine(), 0)
        self.pac_mask = read_pac_mask()
        self.held_ns = 0
        self._blocking = blocking
        if procfs.is_kernel_thread(pid):
            raise TargetError(f"{pid} is a thread of the kernel: it has no frames of a program")
        if procfs.has_ended(pid):
            raise ProcessGone(f"process {pid} has ended, and waits for its parent to notice")
        # Memory is asked for by a thread that lives, where the first one has ended.
        self._reachable = procfs.other_thread(pid) or pid
        tasks.require_tracing(pid, self._reachable)
        self._memory = ProcessMemory(self._reachable)

    def read(self, addr: int, size: int) -> bytes:
        """Read exactly `size` bytes at `addr` (errors: `ProcessMemory.read`)."""
        return self._memory.read(addr, size)

    def read_maps(self) -> list[MappedRange]:
        """List the executable mappings."""
        return procfs.read_maps(self.pid)

    def open_mapped(self, mapped: MappedRange) -> FileSource:
        """Open the file of a mapping."""
        dev = os.makedev(mapped.major, mapped.minor)
        where = (mapped.start, mapped.end, mapped.path)
        return files.open_mapped(self.pid, *where, dev=dev, inode=mapped.inode)

    def read_vdso(self) -> bytes:
        """Give our own vDSO: every process has the same."""
        return procfs.read_vdso()

    def lend_memory(self, taker: MemoryTaker) -> None:
        """Let C read the process, by its file where `process_vm_readv` is missing or denied."""
        for mapped in self.read_maps()[:1]:
            with contextlib.suppress(TargetError):
                self.read(mapped.start, 1)
        if self._memory.file is None:
            taker.use_process(self._reachable)
        else:
            taker.add_file(PAGE_BYTES, self._memory.file, PAGE_BYTES, _TOP - PAGE_BYTES)

    @contextlib.contextmanager
    def hold(self) -> Iterator[Sequence[ThreadImage]]:
        """Stop all threads, give them, and let them go again."""
        seen = tasks.read_tasks(self.pid)
        if not self._blocking:
            yield [_unstopped(task, RUNNING) for task in seen.values()]
            return
        stop = ffi.gc(lib.oa_stop_new(), lib.oa_stop_free)
        if stop == ffi.NULL:
            raise MemoryError
        try:
            count = lib.oa_stop_threads(stop, self.pid, QUIET_MS)
            if count < 0:
                raise tasks.refusal(self.pid, -count)
            yield list(self._stopped(stop, count, seen))
        finally:
            self.held_ns += lib.oa_stop_release(stop)

    def _stopped(self, stop: object, count: int, seen: dict[int, Task]) -> Iterator[ThreadImage]:
        for index in range(count):
            one = lib.oa_stop_thread(stop, index)
            if one.state == lib.OA_STOP_GONE:
                continue
            task = seen.get(one.tid) or tasks.read_task(self.pid, one.tid)
            if task.has_ended:
                yield ThreadImage(one.tid, task.name, task.state, problem=ENDED)
            elif one.state == lib.OA_STOP_LATE:
                yield _unstopped(task, LATE)
            elif not one.regs_bytes:
                problem = f"its registers cannot be read: {os.strerror(one.error or errno.EIO)}"
                yield ThreadImage(one.tid, task.name, task.state, problem=problem)
            else:
                data = bytes(ffi.buffer(one.regs, one.regs_bytes))
                registers = parse_registers(self.machine, data, one.tls)
                kernel = task.kernel if registers and task.is_where(registers) else ()
                yield ThreadImage(one.tid, task.name, task.state, registers, kernel)

    def close(self) -> None:
        """Give back what is open."""
        self._memory.close()


def _unstopped(task: Task, problem: str) -> ThreadImage:
    """Tell what is known of a thread that did not stop: where it entered the kernel."""
    if task.has_ended:
        return ThreadImage(task.tid, task.name, task.state, problem=ENDED)
    registers = task.entry_registers()
    if registers is None:
        return ThreadImage(task.tid, task.name, task.state, None, task.kernel, problem)
    said = "" if problem == RUNNING else problem
    return ThreadImage(task.tid, task.name, task.state, registers, task.kernel, said)
