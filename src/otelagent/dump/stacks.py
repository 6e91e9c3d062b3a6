# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From a process image to the named stack of each of its threads.

    with CoreImage.open("core.1234") as image:
        for stack in unwind(image):
            print(stack.thread.tid, stack.trace.frames)

All is as live but for the kernel: `processes/table.py` and what is below it fill
the maps of the unwinders, which are those of BPF, compiled for the host. What
is slow (files, rows, symbols) comes before or after the process is held.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent._native import ffi, lib
from otelagent.abi._generated import Fault, FrameKind, Limit, RecordKind, SampleFlag
from otelagent.abi.codec import RawTrace, decode_trace
from otelagent.errors import AgentError, TargetError
from otelagent.host.kept import raise_open_files
from otelagent.host.live import LiveImage
from otelagent.model import Executable, FileId, Frame, FrameType, Function, Line, Trace
from otelagent.namers import Namers, detect
from otelagent.processes.executables import Executables
from otelagent.processes.hostmaps import HostChunks, HostHash, HostMemory, HostRanges
from otelagent.processes.mapped import MappedFiles, Opened
from otelagent.processes.rowstore import RowStore
from otelagent.processes.runtimes import Runtimes
from otelagent.processes.spaces import Spaces
from otelagent.processes.table import ProcessTable
from otelagent.symbolize.kernel import KernelSymbols
from otelagent.traces.handler import PythonNamers, TraceHandler
from otelagent.unwind.host import HostUnwinder, Tables
from otelagent.unwind.load import load_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otelagent.abi.codec import Generation
    from otelagent.formats.elf import ElfFile, Source
    from otelagent.formats.proc_maps import MappedRange
    from otelagent.formats.registers import Registers
    from otelagent.host.image import ProcessImage, ThreadImage
    from otelagent.interpreters.registry import Detected
    from otelagent.symbolize.result import Named
    from otelagent.unwind.cache import RowCache
    from otelagent.unwind.rows import RowTable

HEAD_BYTES = ffi.offsetof("struct oa_deferred", "stack")
PTHREAD_TID = 720
"""`struct pthread.tid` of glibc on x86-64 (nptl/descr.h), where it has always been."""
ATTEMPTS = 2
"""How often a process is held: again where it loaded code meanwhile."""


@dataclass(frozen=True, slots=True)
class ThreadStack:
    """A thread and its stack, the newest frame first; the kernel's frames come before its own."""

    thread: ThreadImage
    trace: Trace


class _Shared:
    """The memory of an image, which is not closed by those who only read it."""

    def __init__(self, image: ProcessImage) -> None:
        self.read = image.read

    def close(self) -> None:
        """Leave the image open."""


class ImageUnwinder:
    """Unwinds and names one image. Used by one thread; `prepare`, then `walk`, then `name`.

    Args:
        image: Must stay open.
        namers: Names native and JIT code; made from the image's files if None.
        max_frames: User frames that are kept of a stack.
        cache: Rows on disk; None: they are extracted again.
        rows: Gives the rows of a file instead, in this process.
        recognise: Tells what interpreter a file is.

    Attributes:
        problems: Files that have frames and could not be read: path → why.
        unwinder: The unwinders compiled for the host, over the tables that are filled here.
    """

    def __init__(
        self,
        image: ProcessImage,
        namers: Namers | None = None,
        *,
        max_frames: int = Limit.MAX_USER_FRAMES,
        cache: RowCache | None = None,
        rows: Callable[[Source, ElfFile], RowTable] | None = None,
        recognise: Callable[[ElfFile], Detected | None] = detect,
    ) -> None:
        self._image = image
        self._cache = cache
        self.problems: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._ranges: list[MappedRange] = []
        tables = self._tables = Tables()
        rules = HostMemory(ffi.sizeof("struct oa_rule") * Limit.MAX_RULES)
        tables.use_rules(rules.pointer, rules.bytes)
        pages = HostHash(tables, lib.OA_HOST_PAGES, 16, 16)
        store = RowStore(HostChunks(tables), rules, pages, time.monotonic_ns)
        self.executables = Executables(
            *(store, rows or self._load_rows, recognise), raise_open_files() // 2
        )
        self._runtimes = Runtimes(
            HostHash(tables, lib.OA_HOST_PYTHON_PROCS, 4, ffi.sizeof("struct oa_python_proc")),
            HostHash(tables, lib.OA_HOST_PYTHON_THREADS, 16, ffi.sizeof("struct oa_python_thread")),
            lambda _pid: _Shared(image),
        )
        self._table = ProcessTable(
            HostHash(tables, lib.OA_HOST_PROCESSES, 4, ffi.sizeof("struct oa_process")),
            Spaces(HostRanges(tables), self.executables, lambda: None, self._runtimes),
            MappedFiles(self.executables, self._open_mapped, image.read_vdso),
            self._read_maps,
        )
        # What has the pid of another image here is another process.
        root = None if isinstance(image, LiveImage) else ""
        self._namers = namers or Namers(symbols=True, debuginfod="", sysroot=root)
        self._namers.by_key = self.executables.by_key
        python = PythonNamers(self._runtimes.namer)
        self._handler = TraceHandler(self._namers.file, KernelSymbols(), python, self._anonymous)
        self.unwinder = HostUnwinder(
            tables,
            max_user_frames=max_frames,
            pac_mask=image.pac_mask,
            interpreters=True,
            machine=image.machine,
        )
        self._record = ffi.new("struct oa_deferred *")

    def prepare(self) -> None:
        """Read what is mapped, and load the rows of all files. Slow, the first time.

        Raises:
            TargetError: The mappings cannot be read.
        """
        image = self._image
        self._space = self._table.prepare(image.pid, 0)
        if self._space is None:
            raise TargetError(f"the mappings of process {image.pid} cannot be read")
        image.lend_memory(self._tables)
        self._runtimes.prepare(image.pid, self._space, 0)

    def walk(self, threads: Sequence[ThreadImage]) -> list[RawTrace | None]:
        """Unwind threads while they are held; None where one has no registers."""
        assert self._space is not None  # noqa: S101 (prepare was called)
        # Threads that began since, of interpreters.
        self._runtimes.prepare(self._image.pid, self._space, time.monotonic_ns())
        pointers: dict[int, int] = {}
        if any(each.registers and not each.registers.thread_pointer for each in threads):
            pointers = self._thread_pointers()
        return [self._walk(each, pointers.get(each.tid, 0)) for each in threads]

    def _thread_pointers(self) -> dict[int, int]:
        """Tell the threads of interpreters by what glibc keeps of them: number → pointer.

        /proc does not say where the storage of a thread that was not stopped is.
        """
        found = {}
        for pointer in self._runtimes.thread_keys(self._image.pid):
            with contextlib.suppress(TargetError):
                tid = self._image.read(pointer + PTHREAD_TID, 4)
                found[int.from_bytes(tid, "little")] = pointer
        return found

    def _walk(self, thread: ThreadImage, thread_pointer: int) -> RawTrace | None:
        registers = thread.registers
        if registers is None:
            return None
        self._fill(thread.tid, registers)
        pointer = registers.thread_pointer or thread_pointer
        lib.oa_host_set_thread_pointer(self._tables.handle, pointer)
        view = ffi.buffer(self._record, HEAD_BYTES)
        record = self.unwinder.unwind(view, all_code=True)
        assert record is not None  # noqa: S101 (its process is in the table)
        return decode_trace(record)

    def _fill(self, tid: int, registers: Registers) -> None:
        """Make the record that BPF would have sent, without a copy of the stack."""
        record = self._record
        sample = record.trace.sample
        sample.kind = RecordKind.DEFERRED
        sample.flags = 1 << SampleFlag.USER_BIT
        sample.pid = record.trace.generation.pid = self._image.pid
        sample.tid = tid
        record.regs.gp = registers.gp
        record.regs.pc = registers.pc
        record.regs.return_address = registers.in_syscall
        record.regs.valid_all = 1

    def name(self, thread: ThreadImage, raw: RawTrace | None) -> ThreadStack:
        """Name the frames of a stack."""
        kernel = tuple(map(_kernel_frame, thread.kernel))
        if raw is None:
            return ThreadStack(thread, Trace(kernel))
        if thread.registers and thread.registers.is_32_bit:
            return ThreadStack(thread, Trace(kernel, Fault.NOT_64_BIT.name))
        trace = self._handler.finish(raw)
        user = tuple(map(self._explain, trace.frames))
        return ThreadStack(thread, Trace((*kernel, *user), trace.fault))

    def is_outdated(self, raws: Sequence[RawTrace | None]) -> bool:
        """Tell whether a stack met code that was mapped after `prepare`."""
        if not any(raw and _met_unknown(raw) for raw in raws):
            return False
        return self._image.read_maps() != self._ranges

    def _explain(self, frame: Frame) -> Frame:
        """Give a frame in a file that could not be opened that file's name and offset."""
        if frame.executable or frame.lines or frame.type is not FrameType.JIT:
            return frame
        for each in self._ranges:
            if each.start <= frame.address < each.end and each.inode:
                offset = frame.address - each.start + each.offset
                missing = Executable(FileId(bytes(16)), each.path)
                reason = self._missing.get(each.path, frame.reason)
                self.problems[each.path] = reason
                native = FrameType.NATIVE
                return Frame(native, offset, missing, guessed=frame.guessed, reason=reason)
        return frame

    def _read_maps(self, _pid: int) -> list[MappedRange]:
        self._ranges = self._image.read_maps()
        return self._ranges

    def _open_mapped(self, _pid: int, mapped: MappedRange) -> Opened:
        try:
            source = self._image.open_mapped(mapped)
        except AgentError as err:
            self._missing.setdefault(mapped.path, str(err))
            raise
        return Opened(source, (source.size, 0))

    def _load_rows(self, source: Source, elf: ElfFile) -> RowTable:
        return load_rows(source, elf, self._cache)

    def _anonymous(self, generation: Generation, addr: int) -> Named | None:
        return self._namers.anonymous(generation, addr)


def _met_unknown(raw: RawTrace) -> bool:
    """Tell whether a stack met an address that is in no mapping."""
    if raw.fault == Fault.NO_MAPPING:
        return True
    return any(word >> 48 & 0xFF == FrameKind.NOWHERE for _, word in raw.words())


def _kernel_frame(text: str) -> Frame:
    name, _, module = text.partition(" ")
    executable = Executable(FileId(bytes(16)), module or "[kernel.kallsyms]")
    return Frame(FrameType.KERNEL, 0, executable, (Line(Function(name)),))


@dataclass(frozen=True, slots=True)
class Taken:
    """The stacks of an image, and what of its files is missing: path → why."""

    stacks: list[ThreadStack]
    problems: dict[str, str]


def take(
    image: ProcessImage,
    namers: Namers | None = None,
    *,
    cache: RowCache | None = None,
) -> Taken:
    """Take the stack of each thread of an image, named as live.

    Raises:
        TargetError: The image cannot be read.
        NotPermitted: The process may not be held.
    """
    for _ in range(ATTEMPTS):
        unwinder = ImageUnwinder(image, namers, cache=cache)
        unwinder.prepare()
        with image.hold() as threads:
            raws = unwinder.walk(threads)
        if not unwinder.is_outdated(raws):
            break
    stacks = [unwinder.name(*pair) for pair in zip(threads, raws, strict=True)]
    return Taken(stacks, unwinder.problems)


def unwind(
    image: ProcessImage, namers: Namers | None = None, *, cache: RowCache | None = None
) -> list[ThreadStack]:
    """Give the stacks alone (`take`)."""
    return take(image, namers, cache=cache).stacks
