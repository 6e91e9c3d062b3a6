# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What BPF and the namer must know of one CPython process. Yields facts, writes no maps."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.abi._generated import Limit, PythonKind, PythonMatch
from otelagent.errors import MemoryFault, UnsupportedRuntime
from otelagent.formats.elf import EM_X86_64
from otelagent.interpreters.python.layout import Layout, read_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.interpreters.python.detect import PythonBuild
    from otelagent.interpreters.python.eval_loop import Range
    from otelagent.protocols import Memory

MAX_INTERPRETERS = 1_024
MAX_THREADS = 65_536
_PROC = struct.Struct("<QiII17H6B4x")  # struct oa_python_proc


@dataclass(frozen=True, slots=True)
class PythonThread:
    """Thread states of one thread, newest first.

    `key` is what `struct oa_python_thread_key.thread` wants: the TLS base
    (x86-64) or the thread id (arm64).
    """

    key: int
    states: tuple[int, ...]

    def value(self) -> bytes:
        """Lay out a `struct oa_python_thread`."""
        count = int(Limit.PY_STATES)
        kept = self.states[:count]
        return struct.pack(f"<{count}Q", *kept, *[0] * (count - len(kept)))

    def key_for(self, pid: int) -> bytes:
        """Lay out the `struct oa_python_thread_key` of this thread in process `pid`."""
        return struct.pack("<QII", self.key, pid, 0)


@dataclass(frozen=True, slots=True)
class PythonProcess:
    """A CPython in one address space.

    Attributes:
        build: What its file tells.
        layout: Where it keeps what is read.
        runtime: Address of `_PyRuntime` (3.6: of the pointer to the first interpreter).
    """

    build: PythonBuild
    layout: Layout
    runtime: int

    @property
    def eval_loop(self) -> tuple[Range, ...]:
        """ELF address ranges that `OA_UNWINDER_PYTHON` owns."""
        return self.build.eval_loop

    @property
    def match(self) -> PythonMatch:
        """Which id tells a thread. On x86-64 `pthread_self()` is the TLS base everywhere."""
        if self.build.machine == EM_X86_64:
            return PythonMatch.PY_MATCH_TLS
        return PythonMatch.PY_MATCH_TID

    def value(self) -> bytes:
        """Lay out a `struct oa_python_proc`."""
        at = self.layout
        by_tls = self.match == PythonMatch.PY_MATCH_TLS
        return _PROC.pack(
            self.runtime + at.runtime_interpreters,
            self._current,
            at.interp_next,
            at.interp_threads,
            at.thread_next,
            at.thread_id if by_tls else at.native_thread_id,
            at.thread_frame,
            at.cframe_frame,
            at.cframe_previous,
            at.frame_previous,
            at.frame_code,
            at.frame_instr,
            at.frame_owner,
            at.frame_entry,
            at.code_block,
            at.code_argcount,
            at.code_kwonly,
            at.code_flags,
            at.code_firstlineno,
            at.code_first_traceable,
            at.code_instructions,
            at.kind,
            self.match,
            at.entry_value,
            at.entry_shown,
            at.owner_generator,
            at.minor,
        )

    @property
    def _current(self) -> int:
        """Where, from the pointer to the interpreters, the pointer to the current state is."""
        place = self.build.current - self.build.runtime if self.build.current else 0
        place = place or self.layout.runtime_current
        return place and place - self.layout.runtime_interpreters

    def iter_states(self, memory: Memory) -> Iterator[int]:
        """Iterate over all thread states, newest first, subinterpreters included.

        A process that has not begun, or changes its lists while they are read,
        gives fewer; loops end at a limit.
        """
        for interpreter in self._chain(
            memory,
            self.runtime + self.layout.runtime_interpreters,
            self.layout.interp_next,
            MAX_INTERPRETERS,
        ):
            head = interpreter + self.layout.interp_threads
            yield from self._chain(memory, head, self.layout.thread_next, MAX_THREADS)

    def read_threads(self, memory: Memory) -> list[PythonThread]:
        """Read which thread has which states.

        Raises:
            ProcessGone: The process ended.
        """
        offset = self.layout.thread_id
        if self.match == PythonMatch.PY_MATCH_TID:
            offset = self.layout.native_thread_id
        found: dict[int, list[int]] = {}
        for count, state in enumerate(self.iter_states(memory)):
            if count >= MAX_THREADS:
                break
            try:
                key = _read_word(memory, state + offset)
            except MemoryFault:
                continue
            if key:
                found.setdefault(key, []).append(state)
        return [PythonThread(key, tuple(states)) for key, states in found.items()]

    @staticmethod
    def _chain(memory: Memory, head: int, next_offset: int, limit: int) -> Iterator[int]:
        """Follow a linked list; ends at a fault, a repetition or the limit."""
        seen: set[int] = set()
        at = head
        while len(seen) < limit:
            try:
                item = _read_word(memory, at)
            except MemoryFault:
                return
            if not item or item in seen:
                return
            seen.add(item)
            yield item
            at = item + next_offset


def _read_word(memory: Memory, addr: int) -> int:
    return int.from_bytes(memory.read(addr & (1 << 64) - 1, 8), "little")


def attach(build: PythonBuild, bias: int, memory: Memory) -> PythonProcess:
    """Learn how to unwind the CPython that is mapped in a process.

    Args:
        build: From `detect`, of the file that is mapped.
        bias: Address of the process minus ELF address.
        memory: Of the process.

    Raises:
        UnsupportedRuntime: It cannot be unwound; says why.
        MemoryFault: `_PyRuntime` cannot be read (yet).
        ProcessGone: The process ended.
    """
    runtime = build.runtime + bias
    layout = read_layout(build.minor, runtime, memory)
    if build.machine != EM_X86_64 and layout.kind == PythonKind.PY_OBJECT:
        # pthread_self() is not the TLS base there, and there is no native id to compare.
        raise UnsupportedRuntime(f"CPython 3.{build.minor} on this kind of machine")
    return PythonProcess(build, layout, runtime)
