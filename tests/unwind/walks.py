# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A process in fake memory whose stack the real unwinder walks."""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass, field
from types import SimpleNamespace

from otelagent._native import ffi
from otelagent.abi._generated import CfaKind, Fault, RecordKind, Reg, RegKind, Row, SampleFlag
from otelagent.unwind.host import HostTables, HostUnwinder

IS_X86 = platform.machine() == "x86_64"
SP, FP = (Reg.X86_RSP, Reg.X86_RBP) if IS_X86 else (Reg.ARM_SP, Reg.ARM_FP)
FILE = 0xF11E
SPACE = 3
PID = 77
TEXT = 0x5555_0000_0000
BIAS = TEXT - 0x1000
STACK = 0x7FFD_1234_0000
PAGE = 1 << 16


def rule(
    cfa=(CfaKind.REG, SP, 8),
    ra=(RegKind.CFA, 0, -8),
    fp=(RegKind.SAME, 0, 0),
    *,
    cfa_reg2=0,
    cfa_add=0,
) -> bytes:
    """Make a `struct oa_rule`: by default a frame that has pushed nothing."""
    kinds = (cfa[0], cfa[1], cfa_reg2, fp[0], fp[1], ra[0], ra[1], 0)
    return struct.pack("=8B6i", *kinds, cfa[2], cfa_add, fp[2], ra[2], 0, 0)


def table(rows: dict[int, bytes | int]) -> SimpleNamespace:
    """Make a row table of {ELF address: rule or command}, with a first row in each page."""
    rules = list(dict.fromkeys(what for what in rows.values() if isinstance(what, bytes)))
    pages, out = {}, []
    for addr in sorted(rows):
        what = rows[addr]
        index = rules.index(what) if isinstance(what, bytes) else int(what)
        if addr // PAGE not in pages:
            pages[addr // PAGE] = [len(out), 0]
            if addr % PAGE:
                out.append(Row.NONE << 16)
        out.append(addr % PAGE | index << 16)
        pages[addr // PAGE][1] = len(out) - pages[addr // PAGE][0]
    packed = [struct.pack("=III", page, *place) for page, place in pages.items()]
    return SimpleNamespace(
        pages=b"".join(packed), rows=struct.pack(f"={len(out)}I", *out), rules=b"".join(rules)
    )


@dataclass(frozen=True)
class Walk:
    """What came out: (ELF address, flags, kind) of each frame, and why it ended."""

    frames: list[tuple[int, int, int]]
    fault: Fault
    fault_pc: int
    hash: int
    flags: int
    record: bytes

    @property
    def addrs(self) -> list[int]:
        return [frame[0] for frame in self.frames]


def parse(record: bytes) -> Walk:
    trace = ffi.cast("struct oa_trace *", ffi.from_buffer(record))
    offset = ffi.sizeof("struct oa_trace") + 8 * trace.kernel_frames
    frames = []
    for _, addr in struct.iter_unpack("=QQ", record[offset:]):
        frames.append((addr & (1 << 48) - 1, addr >> 56, addr >> 48 & 255))
    assert len(frames) == trace.user_frames
    sample = trace.sample
    assert sample.kind == RecordKind.TRACE
    return Walk(frames, Fault(trace.fault), trace.fault_pc, sample.hash, sample.flags, record)


@dataclass
class World:
    """One thread: registers, stack words from `STACK` on, rows and text of one file."""

    rows: dict[int, bytes | int] = field(default_factory=dict)
    stack: list[int] = field(default_factory=list)
    regs: dict[int, int] = field(default_factory=dict)
    pc: int = TEXT
    text: dict[int, bytes] = field(default_factory=dict)
    mappings: list[tuple[int, int]] = field(default_factory=lambda: [(TEXT, TEXT + 0x100000)])
    kernel: list[int] = field(default_factory=list)
    return_address: bool = False
    valid_all: bool = True
    max_frames: int = 128
    mapping: dict[str, int] = field(default_factory=dict)
    other: tuple[int, list[int]] = (0, [])
    """Another stack's copy: its address and words."""
    behind: bytes = b""
    """What follows the record."""
    go_high: int = 0

    def deferred(self) -> bytes:
        """Make the record that BPF sends."""
        record = ffi.new("struct oa_deferred *")
        sample = record.trace.sample
        sample.kind, sample.pid, sample.tid = RecordKind.DEFERRED, PID, PID + 1
        sample.flags = 1 << SampleFlag.USER_BIT
        sample.time_ns, sample.weight = 5, 6
        generation = record.trace.generation
        generation.pid, generation.start_ns, generation.exec_id = PID, 11, 12
        record.trace.kernel_frames = len(self.kernel)
        for at, addr in enumerate(self.kernel):
            record.kernel[at] = addr
        record.regs.gp[SP] = STACK
        for reg, value in self.regs.items():
            record.regs.gp[reg] = value
        record.regs.pc = self.pc
        record.regs.return_address = self.return_address
        record.regs.valid_all = self.valid_all
        record.stack_addr, record.stack_bytes = record.regs.gp[SP], len(self.stack) * 8
        record.other_addr, record.other_bytes = self.other[0], len(self.other[1]) * 8
        record.go_high = self.go_high
        words = [*self.stack, *self.other[1]]
        stack = struct.pack(f"={len(words)}Q", *words)
        ffi.memmove(record.stack, stack, len(stack))
        own = ffi.offsetof("struct oa_deferred", "stack") + len(stack)
        return ffi.buffer(record)[:own] + self.behind

    def tables(self) -> HostTables:
        tables = HostTables()
        tables.set_process(PID, 11, 12, SPACE)
        for start, end in self.mappings:
            given = {"bias": BIAS, "file_id": FILE} | self.mapping
            tables.add_mapping(SPACE, start, end, **given)
        tables.add_table(FILE, table(self.rows))
        for addr, code in self.text.items():
            tables.add_memory(addr, code)
        return tables

    def walk(self) -> Walk:
        unwinder = HostUnwinder(self.tables(), max_user_frames=self.max_frames)
        record = unwinder.unwind(self.deferred())
        assert record is not None
        return parse(record)
