# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Raw traces into finished ones: each frame named once, kernel and user joined.

Several raw traces (of two processes, say) may become one finished trace; never
the other way. Native and kernel frames are named when a profile is made, since
files and kallsyms stay; interpreter frames at once, since memory does not.
"""

from __future__ import annotations

import threading
from itertools import chain, compress, repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from otelagent import metrics
from otelagent.abi._generated import HELP, Fault, FrameKind, SampleFlag, Wait
from otelagent.abi.codec import RawFrame, decode_python
from otelagent.model import Executable, FileId, Frame, FrameType, Function, Line, Trace
from otelagent.waiting import UNKNOWN, waiting_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otelagent.abi.codec import Generation, PythonCopies, RawTrace
    from otelagent.protocols import PythonNamer
    from otelagent.symbolize.result import Named

WAITS = {
    Wait.UNKNOWN: UNKNOWN,
    Wait.SLEEPING: "sleeping",
    Wait.BLOCKED: "blocked",
    Wait.STOPPED: "stopped",
    Wait.PREEMPTED: "preempted",
}
SCHEDULER = "__schedule"
"""The kernel's function from which a thread leaves a CPU; what it calls are our own programs."""
BEGINS_UNNAMED = "no symbol begins where a signal trampoline does, or a stack ends"

MAX_FINISHED = 65_536
"""How many finished traces are kept for the case that they come again."""
NO_CODE = Executable(FileId(bytes(16)), "[no code]")
CALLED_NO_CODE = "a null or wild pointer was called"


class NamesAddresses(Protocol):
    """Names addresses of one file."""

    def name(self, elf_addr: int, *, is_return_address: bool) -> Named:
        """Name one address."""
        ...


class NamesKernel(Protocol):
    """Names kernel addresses."""

    def name(self, addr: int, *, is_return_address: bool = False) -> Named:
        """Name one address."""
        ...


class PythonNamers(NamedTuple):
    """Find what names a process's Python frames.

    Attributes:
        of_space: By the address space that a trace was walked with.
        early: By what a deferred stack has, before its process is known.
    """

    of_space: Callable[[Generation, int], PythonNamer | None]
    early: Callable[[PythonCopies], PythonNamer | None] = lambda _copies: None


class Finished(NamedTuple):
    """A finished trace, and what else is asked of its raw one, which may be packed by then."""

    trace: Trace
    generation: Generation
    comm: bytes
    flags: int


def wait_of(raw: RawTrace) -> Frame:
    """Say why a thread left the CPU."""
    wait = raw.flags >> SampleFlag.WAIT_BIT & 7
    return waiting_frame(WAITS[Wait(wait)] if wait in WAITS else UNKNOWN)


def from_scheduler(kernel: list[Frame]) -> list[Frame]:
    """Leave out what the scheduler called to tell us that a thread leaves the CPU."""
    for at, frame in enumerate(kernel):
        if frame.lines and frame.lines[-1].function.name == SCHEDULER:
            return kernel[at:]
    return kernel


def call_site(raw: RawFrame) -> int:
    """Give an address inside the instruction that runs: of a caller, inside its call."""
    return max(raw.address - raw.is_return, 0)


class TraceHandler:
    """Makes finished traces. `see` may be called from another thread than `finish`.

    Args:
        file: FileID's first 64 bits → the executable and its symbols; None if unknown.
        kernel: Names kernel addresses.
        python: Names the Python frames of a process in an address space; None where that is
            not possible.
        anonymous: Names code in memory without a file (JIT), by process and address.
    """

    def __init__(
        self,
        file: Callable[[int], tuple[Executable, NamesAddresses] | None],
        kernel: NamesKernel,
        python: PythonNamers,
        anonymous: Callable[[Generation, int], Named | None],
    ) -> None:
        self._file = file
        self._kernel = kernel
        self._python = python
        self._anonymous = anonymous
        self._modules: dict[str, Executable] = {}
        self._kernel_frames: dict[tuple[int, bool], Frame] = {}
        self._native_frames: dict[tuple[int, int], Frame] = {}
        self._python_frames: dict[tuple[Generation, int, int], Frame] = {}
        self._jit_frames: dict[tuple[Generation, int, int], Frame] = {}
        self._finished: dict[int, Finished] = {}
        self.error_frames = False
        """End a stack that was cut short with a frame that says why."""
        self._lock = threading.Lock()

    def see(self, raw: RawTrace) -> None:
        """Name frames of interpreters and JITs in a new trace while their process lives."""
        generation, named = raw.generation, self._python_frames
        kinds = raw.kinds()
        for (first, word), kind in compress(zip(raw.words(), kinds, strict=True), kinds):
            if kind == FrameKind.PYTHON:
                # Most are known: neither the lock nor the frame taken apart is worth it then.
                known = named.get((generation, first, word))
                if known is None or not known.lines:
                    self._python_frame(raw, RawFrame.of(first, word))
            elif kind == FrameKind.ANON:
                self._anonymous_frame(generation, RawFrame.of(first, word))

    def see_deferred(self, data: bytes) -> None:
        """Read the code objects of a stack that is finished later: they may be gone by then.

        Raises:
            ValueError: It is no deferred stack.
        """
        copies = decode_python(data)
        namer = self._python.early(copies) if copies else None
        if copies and namer:
            with self._lock:
                for code, block in copies.codes:
                    namer.read_ahead(code, block)

    def finish(self, raw: RawTrace) -> Trace:
        """Make the finished trace."""
        found = self._finished.get(raw.hash)
        if found is not None:
            return found.trace
        kernel = self._kernel_part(raw.kernel)
        if raw.flags >> SampleFlag.OFF_CPU_BIT & 1:
            kernel = [wait_of(raw), *from_scheduler(kernel)]
        user = self._user_part(raw)
        fault = ""
        if raw.fault:
            fault = Fault(raw.fault).name if raw.fault < Fault.COUNT else str(raw.fault)
        if fault and self.error_frames:
            user.append(_error_frame(raw.fault, fault))
        trace = Trace((*kernel, *user), fault)
        if len(self._finished) >= MAX_FINISHED:
            self._finished.clear()
        self._finished[raw.hash] = Finished(trace, raw.generation, raw.comm, raw.flags)
        return trace

    def finished(self, hash_: int) -> Finished | None:
        """Give a trace that was finished lately."""
        return self._finished.get(hash_)

    def _kernel_part(self, addrs: tuple[int, ...]) -> list[Frame]:
        # Of nearly all frames that come here the name is known: no step of Python for each.
        keys = list(zip(addrs, chain((False,), repeat(True)), strict=False))
        found = list(map(self._kernel_frames.get, keys))
        if all(found):
            return found  # type: ignore[return-value]
        return [each or self._kernel_frame(*key) for each, key in zip(found, keys, strict=True)]

    def _user_part(self, raw: RawTrace) -> list[Frame]:
        words = list(raw.words())
        found = list(map(self._native_frames.get, words))
        if all(found):
            return found  # type: ignore[return-value]
        python, generation = self._python_frames, raw.generation
        for at, frame in enumerate(found):
            if frame is None:
                first, word = words[at]
                frame = python.get((generation, first, word))  # noqa: PLW2901
                if frame is None or not frame.lines:
                    frame = self._user_frame(raw, RawFrame.of(first, word))  # noqa: PLW2901
                found[at] = frame
        return found  # type: ignore[return-value]

    def forget(self, hashes: Iterable[int]) -> None:
        """Drop finished traces that are not wanted any more; their frames stay until `keep`."""
        for each in hashes:
            self._finished.pop(each, None)

    def keep(self, traces: Mapping[int, RawTrace]) -> None:
        """Forget every frame but those of `traces`.

        No new trace may be seen meanwhile: it might need what is being forgotten.
        """
        kernel: set[int] = set()
        native: set[tuple[int, int]] = set()
        other: set[tuple[Generation, int, int]] = set()
        for raw in traces.values():
            kernel.update(raw.kernel)
            native.update(raw.words())
            others = compress(raw.words(), raw.kinds())
            other.update((raw.generation, *words) for words in others)
        with self._lock:
            self._native_frames = {k: v for k, v in self._native_frames.items() if k in native}
            self._kernel_frames = {k: v for k, v in self._kernel_frames.items() if k[0] in kernel}
            for frames in (self._python_frames, self._jit_frames):
                for key in [key for key in frames if key not in other]:
                    del frames[key]

    @property
    def frame_count(self) -> int:
        """How many named frames are kept."""
        machine_code = len(self._native_frames) + len(self._kernel_frames)
        return machine_code + len(self._python_frames) + len(self._jit_frames)

    def _kernel_frame(self, addr: int, is_return: bool) -> Frame:
        frame = self._kernel_frames.get((addr, is_return))
        if frame is None:
            named = self._kernel.name(addr, is_return_address=is_return)
            module = self._module(named.module or "[kernel.kallsyms]")
            site = addr - is_return
            frame = Frame(FrameType.KERNEL, site, module, named.lines, reason=named.reason)
            self._kernel_frames[addr, is_return] = _counted(frame)
        return frame

    def _module(self, name: str) -> Executable:
        module = self._modules.get(name)
        if module is None:
            module = self._modules[name] = Executable(FileId(bytes(16)), name)
        return module

    def _user_frame(self, trace: RawTrace, raw: RawFrame) -> Frame:
        if raw.kind == FrameKind.PYTHON:
            return self._python_frame(trace, raw)
        if raw.kind == FrameKind.NOWHERE:
            return _counted(Frame(FrameType.NATIVE, raw.address, NO_CODE, reason=CALLED_NO_CODE))
        if raw.kind == FrameKind.ANON:
            return _counted(self._anonymous_frame(trace.generation, raw))
        frame = self._native_frames.get((raw.file_or_object, raw.word))
        if frame is None:
            frame = _counted(self._native_frame(raw))
            self._native_frames[raw.file_or_object, raw.word] = frame
        return frame

    def _native_frame(self, raw: RawFrame) -> Frame:
        site = call_site(raw)
        found = self._file(raw.file_or_object)
        if found is None:
            reason = "the file is not known any more"
            return Frame(FrameType.NATIVE, site, guessed=raw.guessed, reason=reason)
        executable, symbols = found
        named = symbols.name(raw.address, is_return_address=raw.is_return)
        if raw.is_begin and _is_within(symbols, raw.address, named):
            return Frame(
                *(FrameType.NATIVE, site, executable), guessed=raw.guessed, reason=BEGINS_UNNAMED
            )
        return Frame(named.type, site, executable, named.lines, raw.guessed, reason=named.reason)

    def _anonymous_frame(self, generation: Generation, raw: RawFrame) -> Frame:
        site = call_site(raw)
        key = (generation, raw.file_or_object, raw.word)
        with self._lock:
            frame = self._jit_frames.get(key)
            if frame is not None:
                return frame
            named = self._anonymous(generation, site)
            if named is None or not named.lines:
                # Not kept: what compiled it may yet write its name.
                reason = named.reason if named else "code in memory without a file"
                return Frame(FrameType.JIT, site, guessed=raw.guessed, reason=reason)
            frame = Frame(FrameType.JIT, site, None, named.lines, raw.guessed)
            self._jit_frames[key] = frame
            return frame

    def _python_frame(self, trace: RawTrace, raw: RawFrame) -> Frame:
        key = (trace.generation, raw.file_or_object, raw.word)
        with self._lock:
            known = self._python_frames.get(key)
            if known is not None and known.lines:
                return known
            namer = self._python.of_space(trace.generation, trace.space)
            if namer is None:
                frame = Frame(FrameType.PYTHON, reason="the process was gone before it was read")
            else:
                frame = namer.name(raw.file_or_object, raw.word)
            if known is None:
                _counted(frame)
            elif not frame.lines:
                return known
            # Without a name it is tried again: code that is made and dropped over and
            # over comes back to the same place in memory.
            self._python_frames[key] = frame
            return frame


def _is_within(symbols: NamesAddresses, addr: int, named: Named) -> bool:
    """Tell whether the function that has an address has the byte before it, too.

    musl's signal trampoline has no symbol, and lies where one without a size reaches.
    """
    before = symbols.name(addr, is_return_address=True)
    return bool(named.lines and before.lines) and (
        named.lines[-1].function == before.lines[-1].function
    )


def _error_frame(number: int, fault: str) -> Frame:
    text = HELP[Fault].get(Fault(number), "") if number < Fault.COUNT else ""
    name = f"[unwinding error: {fault.lower()}{': ' * bool(text)}{text}]"
    return Frame(FrameType.ERROR, lines=(Line(Function(name)),))


def _counted(frame: Frame) -> Frame:
    if frame.lines:
        metrics.resolved.add(reason=frame.type)
    else:
        metrics.unresolved.add(reason=frame.reason or "unknown")
    return frame
