# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs that are mutated, made by the tests' builders: what each consists of is written there."""

from __future__ import annotations

import struct
from pathlib import Path

from otelagent.coredump.case import SNAPSHOT
from tests.builders.cfi import eh_frame, make_elf
from tests.builders.cores import crashed
from tests.builders.dwarf import FIRST, ONE, TWO, entry, joined, unit
from tests.builders.pclntab import MAGIC, GoFunction, build_pclntab
from tests.builders.recorded import write_core
from tests.formats.test_jitdump import HEADER, RECORDS
from tests.fuzz.parsers import RECORDED_ROOT
from tests.symbolize.test_demangle import KNOWN

CASES = Path(__file__).resolve().parents[1] / "coredump" / "cases"
RECORDED = (
    *("py-3.6-pyenv-calls", "py-3.8-pyenv-calls", "py-3.11-pyenv-calls", "py-3.12-pyenv-made"),
    *("py-3.13-pyenv-async", "py-3.13-pyenv-sub", "py-3.14-debian-calls", "go-now-chain"),
    *("go-now-cgo", "c-signal-nested", "cxx-catching", "rust-panic"),
)

# DW_CFA: def_cfa_offset 16, offset rbp, def_cfa_register rbp, remember, def_cfa, restore.
PUSH_FRAME = bytes([0x41, 0x0E, 16, 0x86, 2, 0x43, 0x0D, 6, 0x0A, 0x0C, 7, 8, 0x0B])
# DW_CFA_def_cfa_expression: breg7 +8, plus_uconst 16.
EXPRESSION = bytes([0x0F, 4, 0x77, 8, 0x23, 16])
# Special names of C++ that end too early.
CUT = ("_ZTc", "_ZTch", "_ZTchn", "_ZTcv0_n", "_ZThn8")
SECTION = eh_frame((0x1000, 64, PUSH_FRAME), (0x1040, 64, EXPRESSION))
GO = (
    GoFunction("main.main", 0x1000, ((0, 16), (40, 64), (0, 16))),
    GoFunction("runtime.goexit", 0x1100, ((0, 32),), func_id=5),
)


def _debug_frame() -> bytes:
    """Make a CIE and an FDE as `.debug_frame` has them: 8-byte addresses, no augmentation."""
    cie = struct.pack("<IBBBBB", 0xFFFFFFFF, 1, 0, 1, 0x78, 16) + b"\x0c\x07\x08\x90\x01"
    fde = struct.pack("<IQQ", 0, 0x1000, 64) + PUSH_FRAME
    return b"".join(
        struct.pack("<I", len(padded)) + padded
        for padded in (each + bytes(-len(each) % 8) for each in (cie, fde))
    )


def _symbols() -> bytes:
    """Make Elf64_Sym entries: functions that touch, overlap, have no size, or are labels."""
    rows = ((0x1000, 16), (0x1010, 0), (0x1018, 64), (0x2000, 8), (0x2000, 16), (0xB000, 0))
    return b"".join(
        struct.pack("<IBBHQQ", at, info, 0, 1, addr, size)
        for at, (addr, size) in enumerate(rows, 1)
        for info in (0x12, 0x02, 0x00)
    )


def make_seeds() -> dict[str, list[bytes]]:
    """Give the inputs of every driver and parser that has some."""
    tables = [
        build_pclntab(GO, version=version, quantum=quantum)
        for version in MAGIC
        for quantum in (1, 4)
    ]
    elf = make_elf(SECTION).source
    kallsyms = b"".join(
        b"%016x %c name%d\t[mod]\n" % (0x1000 + at * 16, b"Ttd"[at % 3], at) for at in range(9)
    )
    cores = [crashed().write(), crashed(frames=40).write()]
    return {
        "core_file": [*cores, crashed(vdso=bytes(64)).write()],
        "core": cores,
        "cfi": [b"\0\1" + SECTION, b"\1\1" + _debug_frame()],
        "declared": [
            joined(unit(entry(2, ONE, 7), entry(3, TWO, FIRST, 0, 0, 0), entry(4, TWO, 9, 0)))
        ],
        "gopclntab": tables,
        "symbols": [_symbols(), b"1" + kallsyms[1:]],
        "demangle": [name.encode() for name in (*KNOWN, *CUT)],
        "elf": [elf.read_at(0, elf.size)],
        "perf_map": [
            b"1000 20 fast\n2000 10 a name with blanks\nzz 1 x\n3000 ffffffffffffffff y\n"
        ],
        "jitdump": [HEADER + RECORDS],
        "code_object": [bytes([8, 1, 2, 255, 0, 4, 128, 0, 0xF0, 0x83, 1, 0xFA, 0x6F, 0x40, 1])],
        "kallsyms": [kallsyms],
        "proc_maps": [
            b"5000-6000 r-xp 00001000 08:01 77  /bin/a b\n7000-8000 r-xp 0 0:0 0 [vdso]\n"
        ],
    }


def write_seeds(name: str, folder: Path) -> list[Path]:
    """Write the inputs of one driver, and give where they are."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    if name == "recorded":
        made = [write_core(CASES / case / SNAPSHOT, RECORDED_ROOT) for case in RECORDED]
    else:
        made = make_seeds().get(name, [])
    paths = []
    for number, data in enumerate(made):
        paths.append(place / str(number))
        paths[-1].write_bytes(data)
    return paths
