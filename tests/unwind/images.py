# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A program's files as tables, and stacks that it wrote down walked with them."""

from __future__ import annotations

import bisect
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from otelagent._native import ffi
from otelagent.abi._generated import Fault, FrameFlag, RecordKind
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.proc_maps import parse_executable
from otelagent.unwind.extract import extract
from otelagent.unwind.host import HostTables, HostUnwinder
from tests.unwind.walks import SP

REGS_BYTES = 33 * 8
HEAD = ffi.offsetof("struct oa_deferred", "stack")
PID = 9


def deferred(step: bytes, below: int = 0) -> bytes:
    """Make the record that BPF sends of 32 registers by DWARF number, the pc, and a stack.

    The stack begins `below` bytes below the stack pointer.
    """
    *gp, pc = struct.unpack_from("=33Q", step)
    stack = step[REGS_BYTES:]
    record = ffi.new("struct oa_deferred *")
    record.trace.sample.kind = RecordKind.DEFERRED
    record.trace.generation.pid = PID
    record.regs.gp[0:32] = gp
    record.regs.pc = pc
    record.regs.valid_all = 1
    record.stack_addr = gp[SP] - below
    record.stack_bytes = len(stack)
    ffi.memmove(record.stack, stack, len(stack))
    return ffi.buffer(record)[: HEAD + len(stack)]


@dataclass(frozen=True)
class Image:
    """Unwind tables and symbols of every file that a program had mapped."""

    tables: HostTables
    names: dict[int, list[tuple[int, str]]]

    @classmethod
    def of(cls, maps: bytes) -> Image:
        """Read the files that a `/proc/PID/maps` names."""
        tables, files = HostTables(), {}
        tables.set_process(PID, 0, 0, 1)
        for mapping in parse_executable(maps):
            if not mapping.path.startswith("/"):
                continue
            elf = ElfFile(BytesSource(Path(mapping.path).read_bytes()))
            if mapping.path not in files:
                files[mapping.path] = len(files) + 1
                tables.add_table(files[mapping.path], extract(elf))
            bias = mapping.start - elf.address_of(mapping.offset)
            given = {"bias": bias, "file_id": files[mapping.path]}
            tables.add_mapping(1, mapping.start, mapping.end, **given)
        return cls(tables, {number: symbols(path) for path, number in files.items()})

    def walk(self, unwinder: HostUnwinder, step: bytes, below: int = 0) -> tuple[list[str], Fault]:
        """Give the functions of a stack, newest first, and why it ended."""
        out = unwinder.unwind(deferred(step, below))
        trace = ffi.cast("struct oa_trace *", ffi.from_buffer(out))
        frames = struct.iter_unpack("=QQ", out[ffi.sizeof("struct oa_trace") :])
        return [name_of(self.names[file], addr) for file, addr in frames], Fault(trace.fault)


def symbols(path: str) -> list[tuple[int, str]]:
    """Sorted functions (address, name) by nm."""
    found: list[tuple[str, str]] = []
    for table in ([], ["-D"]):
        text = subprocess.run(
            ["nm", "--defined-only", *table, path], capture_output=True, text=True, check=True
        ).stdout
        found += re.findall(r"^([0-9a-f]+) [tTwWi] (\w+)", text, re.MULTILINE)
    return sorted((int(addr, 16), name) for addr, name in found)


def name_of(table: list[tuple[int, str]], word: int) -> str:
    addr = (word & (1 << 48) - 1) - (word >> 56 >> FrameFlag.RETURN_BIT & 1)
    at = bisect.bisect_right(table, addr, key=lambda entry: entry[0])
    return table[at - 1][1] if at else "?"
