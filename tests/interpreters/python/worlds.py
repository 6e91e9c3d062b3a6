# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A CPython process in fake memory, whose stack the real unwinder walks (`ebpf/python.h`).

The C stack is a list of frames, newest first: `C` (any native function) or
`Eval(names…)`, a run of the eval loop with the Python frames that it executes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from otelagent._native import ffi, lib
from otelagent.abi._generated import Fault, FrameKind, Limit, PythonKind, Unwinder
from otelagent.formats.elf import EM_X86_64
from otelagent.interpreters.python import PythonBuild, PythonProcess
from otelagent.interpreters.python.frames import RawFrame
from otelagent.interpreters.python.layout import _RULES, TABLE, Layout
from otelagent.unwind.host import HostTables, HostUnwinder
from tests.interpreters.python.fakes import code_object
from tests.unwind.walks import BIAS, FILE, PID, SPACE, STACK, TEXT, World, rule, table

LAYOUTS: dict[int, Layout] = {**TABLE, **_RULES}
TID = PID + 1
EVAL, OTHER = TEXT + 0x1000, TEXT + 0x2000
C_BYTES = 16
HEAP = 0x7F00_0000_0000
FIRST_LINES = 100
C = "c"


@dataclass(frozen=True)
class Eval:
    """A run of the eval loop; with `entered` false it has not linked its frames yet.

    `saved`: its caller kept the frame in a register, not on the stack.
    """

    names: tuple[str, ...]
    entered: bool = True
    state: int = 0
    saved: bool = True


@dataclass
class Heap:
    """Memory handed out in pieces of 512 bytes."""

    data: bytearray = field(default_factory=bytearray)

    def new(self) -> int:
        self.data += bytes(512)
        return HEAP + len(self.data) - 512

    def put(self, addr: int, data: bytes) -> None:
        self.data[addr - HEAP : addr - HEAP + len(data)] = data

    def word(self, addr: int, value: int, form: str = "<Q") -> None:
        self.put(addr, struct.pack(form, value))


class PythonWorld:
    """Lays a process out when it is made; `walk` unwinds it."""

    def __init__(self, minor: int, stack: list[Eval | str], *, states: int = 1) -> None:
        self.layout = LAYOUTS[minor]
        self.stack = stack
        self.heap = Heap()
        # Room for an entry frame where there is one, or for the registers that are saved.
        self.eval_bytes = 64 if self.layout.kind == PythonKind.PY_OBJECT else 128
        self.c_stack = bytearray(sum(self._size(item) for item in stack) + 8)
        assert len(self.c_stack) <= Limit.MAX_STACK_BYTES
        self.codes: dict[str, int] = {}
        self.frames: dict[str, int] = {}
        self.runtime = self.heap.new()
        self.interpreter = self.heap.new()
        self.states = [self.heap.new() for _ in range(states)]
        self.known = list(self.states)
        self.is_attached = True
        self.is_newest = False
        """The first item is interrupted itself, and has not called what is sampled."""
        self._link_threads()
        heads = [self._link(state) for state in range(states)]
        for state, head in zip(self.states, heads, strict=True):
            self.heap.word(state + self.layout.thread_frame, head)

    def _size(self, item: Eval | str) -> int:
        return C_BYTES if item == C else self.eval_bytes

    def set_current(self, state: int) -> None:
        """Give the GIL to one of the states (3.7 to 3.11 say which has it)."""
        self.heap.word(self.runtime + self.layout.runtime_current, self.states[state])

    def _link_threads(self) -> None:
        at = self.layout
        self.heap.word(self.runtime + at.runtime_interpreters, self.interpreter)
        # Far offsets do not fit into a piece of the heap: make the lists near ones.
        current = at.runtime_current and at.runtime_interpreters + 64
        near = {"interp_next": 0, "interp_threads": 8, "runtime_current": current}
        self.layout = at = replace(at, **near)
        self.heap.word(self.interpreter + at.interp_threads, self.states[0])
        for state, following in zip(self.states, [*self.states[1:], 0], strict=True):
            self.heap.word(state + at.thread_next, following)
            self.heap.word(state + at.thread_id, TID)

    def _stack_word(self, addr: int, value: int) -> None:
        struct.pack_into("<Q", self.c_stack, addr - STACK, value)

    def _bottoms(self) -> list[tuple[Eval | str, int, int]]:
        """Each C frame with its stack pointer and its caller's."""
        out, sp = [], STACK
        for item in self.stack:
            end = sp + self._size(item)
            out.append((item, sp, end))
            sp = end
        return out

    def _link(self, state: int) -> int:
        """Write the Python frames of one state, oldest first; returns where they begin."""
        at = self.layout
        older = 0
        cframe = 0
        for item, sp, end in reversed(self._bottoms()):
            if item == C or item.state != state or not item.entered:
                continue
            if at.kind != PythonKind.PY_OBJECT and not at.entry_shown:
                marker = sp + 32
                struct.pack_into("<Q", self.c_stack, marker - STACK + at.frame_previous, older)
                self.c_stack[marker - STACK + at.frame_entry] = at.entry_value
                older = marker
            for place, name in enumerate(reversed(item.names)):
                older = self._frame(name, older, is_first=place == 0)
            if at.kind == PythonKind.PY_OBJECT and item.saved:
                self._stack_word(end - 48, older)  # a register that its caller needs again
            if at.kind == PythonKind.PY_CFRAME:
                self._stack_word(sp + 8 + at.cframe_frame, older)
                self._stack_word(sp + 8 + at.cframe_previous, cframe)
                cframe = sp + 8
        if at.kind != PythonKind.PY_CFRAME:
            return older
        return cframe or self.heap.new()  # a root _PyCFrame without frames

    def _frame(self, name: str, previous: int, *, is_first: bool) -> int:
        at = self.layout
        frame = self.frames[name] = self.heap.new()
        code = self._code(name)
        tag = 1 if at.minor >= 14 else 0
        self.heap.word(frame + at.frame_previous, previous)
        self.heap.word(frame + at.frame_code, code | tag)
        if at.kind == PythonKind.PY_OBJECT:
            self.heap.word(frame + at.frame_instr, 20, "<i")
        else:
            self.set_lasti(name, 20)
            if at.entry_shown:
                self.heap.put(frame + at.frame_entry, bytes([is_first]))
        return frame

    def set_lasti(self, name: str, lasti: int) -> None:
        at = self.layout
        place = self.codes[name] + at.code_instructions + lasti
        self.heap.word(self.frames[name] + at.frame_instr, place)

    def _code(self, name: str) -> int:
        """A code object that is told from others by its first line."""
        if name not in self.codes:
            line = FIRST_LINES + len(self.codes)
            code = self.codes[name] = self.heap.new()
            pointers = {"name": 0, "filename": 0, "table": 0}
            self.heap.put(code, code_object(self.layout, **pointers, first_line=line))
            if self.layout.code_first_traceable:
                self.heap.word(code + self.layout.code_first_traceable, 3, "<i")
        return self.codes[name]

    def tables(self, *, has_heap: bool = True) -> HostTables:
        tables = HostTables()
        tables.set_process(PID, 11, 12, SPACE)
        given = {"bias": BIAS, "file_id": FILE}
        tables.add_mapping(SPACE, TEXT, EVAL, **given)
        tables.add_mapping(SPACE, EVAL, OTHER, **given, unwinder=Unwinder.PYTHON)
        tables.add_mapping(SPACE, OTHER, OTHER + 0x1000, **given)
        sp = rule()[1]
        rows = {
            TEXT - BIAS: rule(cfa=(0, sp, C_BYTES)),
            EVAL - BIAS: rule(cfa=(0, sp, self.eval_bytes)),
            OTHER - BIAS: rule(ra=(4, 0, 0)),  # the first frame
        }
        tables.add_table(FILE, table(rows))
        if has_heap:
            tables.add_memory(HEAP, bytes(self.heap.data))
        build = PythonBuild(self.layout.minor, 0, (), EM_X86_64)
        process = PythonProcess(build, self.layout, self.runtime)
        if self.is_attached:
            space = struct.pack("<I", SPACE)
            tables.update(lib.OA_HOST_PYTHON_PROCS, space, process.value())
        if self.known:
            states = (*self.known, 0, 0, 0, 0)[:4]
            key, value = struct.pack("<QII", TID, PID, 0), struct.pack("<4Q", *states)
            tables.update(lib.OA_HOST_PYTHON_THREADS, key, value)
        return tables

    def walk(self, *, interpreters: bool = True) -> tuple[list[str], Fault]:
        """Unwind; Python frames by name, `c` for native ones, `eval` for the loop's own."""
        return self._unwind(self.tables(), self._deferred(), interpreters=interpreters)

    def copy(self) -> bytes:
        """Make the record that BPF sends, with its Python frames."""
        plain = self._deferred()
        record = ffi.new("struct oa_deferred *")
        ffi.memmove(record, plain, len(plain))
        tables = self.tables()
        tables.add_memory(STACK, bytes(self.c_stack))
        python_bytes = lib.oa_host_copy_python(tables.handle, record, SPACE)
        assert python_bytes == record.python_bytes
        return ffi.buffer(record)[: len(plain) + python_bytes]

    def finish(self, record: bytes) -> tuple[list[str], Fault]:
        """Unwind a record when the process has gone on: its own memory is not there any more."""
        return self._unwind(self.tables(has_heap=False), record, interpreters=False)

    def _deferred(self) -> bytes:
        places = self._bottoms()
        pcs = [TEXT + 0x100 if item == C else EVAL + 0x100 for item, _, _ in places]
        for (_, _, end), caller in zip(places, [*pcs[1:], OTHER + 0x10], strict=True):
            self._stack_word(end - 8, caller)
        words = list(struct.unpack(f"<{len(self.c_stack) // 8}Q", self.c_stack))
        newest = self.is_newest
        return World(stack=words, pc=pcs[0], return_address=not newest, valid_all=newest).deferred()

    def _unwind(
        self, tables: HostTables, deferred: bytes, *, interpreters: bool
    ) -> tuple[list[str], Fault]:
        unwinder = HostUnwinder(tables, max_user_frames=1024, interpreters=interpreters)
        record = unwinder.unwind(deferred)
        assert record is not None
        trace = ffi.cast("struct oa_trace *", ffi.from_buffer(record))
        pairs = struct.iter_unpack("=QQ", record[ffi.sizeof("struct oa_trace") :])
        return [self._name(*pair) for pair in pairs], Fault(trace.fault)

    def _name(self, file_or_object: int, addr: int) -> str:
        if addr >> 48 & 255 != FrameKind.PYTHON:
            elf_addr = addr & (1 << 48) - 1
            return "eval" if EVAL <= elf_addr + BIAS < OTHER else C
        raw = RawFrame.decode(file_or_object, addr)
        names = {code: name for name, code in self.codes.items()}
        assert raw.check & 1023 or raw.lasti
        return names[raw.code]
