# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes recorded cases as core files, with their files in a root directory of their own."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from otelagent.formats.elf import EM_X86_64
from otelagent.host.snapshot import SnapshotImage
from tests.builders.cores import (
    AT_SYSINFO_EHDR,
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    Core,
    R,
    W,
    X,
    files,
    note,
    psinfo,
    status,
)

if TYPE_CHECKING:
    from pathlib import Path

    from otelagent.host.snapshot import FilePart, RegistersPart, Snapshot

# DWARF's order of x86-64 (System V ABI, figure 3.36).
_NAMES = ("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp")
NAMES = (*_NAMES, *(f"r{number}" for number in range(8, 16)))
VDSO = 0x7FFF_FFF0_0000
"""Where it lies if the case does not say."""


def write_core(snapshot: Path, root: Path) -> bytes:
    """Make the core file of a case for x86-64, and lay its files out under `root`, sparse.

    Threads, memory and mappings are those of the snapshot; each file is found by its
    path below the name of the case.
    """
    held = SnapshotImage.open(snapshot).snapshot
    prefix = f"/{snapshot.parent.name}"
    for part in held.files:
        if part.pieces:
            _lay_out(root / f"{prefix}{part.path}".lstrip("/"), part)
    made = Core(machine=EM_X86_64)
    threads = [(each.tid, each.registers) for each in held.threads if each.registers]
    made.notes = [
        *(note(NT_PRSTATUS, _status(*each)) for each in threads[:1]),
        note(NT_PRPSINFO, psinfo(held.pid, held.threads[0].name, "")),
        note(NT_AUXV, struct.pack("<QQ", AT_SYSINFO_EHDR, _vdso(held))),
        note(
            NT_FILE,
            files(
                *(
                    (each.start, each.end, each.offset, f"{prefix}{each.path}")
                    for each in held.maps
                    if each.inode
                ),
                unit=1,
            ),
        ),
        *(note(NT_PRSTATUS, _status(*each)) for each in threads[1:]),
    ]
    for each in held.maps:
        vdso = held.vdso if each.path == "[vdso]" else b""
        made.load(each.start, vdso[: each.end - each.start], each.end - each.start, R | X)
    for addr, data in held.memory:
        if not any(each.start < addr + len(data) and addr < each.end for each in held.maps):
            made.load(addr, data, flags=R | W)
    return made.write()


def _status(tid: int, registers: RegistersPart) -> bytes:
    named = dict(zip(NAMES, registers.gp, strict=False))
    called = 0 if registers.in_syscall else (1 << 64) - 1
    return status(tid, rip=registers.pc, orig_rax=called, fs_base=registers.thread_pointer, **named)


def _vdso(held: Snapshot) -> int:
    return next((each.start for each in held.maps if each.path == "[vdso]"), VDSO)


def _lay_out(path: Path, part: FilePart) -> None:
    if path.exists() and path.stat().st_size == part.size:
        return  # somebody may read it just now
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(part.size)
        for offset, data in part.pieces:
            file.seek(offset)
            file.write(data)
