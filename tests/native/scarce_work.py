# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run with `scarce.so` preloaded: what the C core does, with each of its allocations failing once.

Prints a line for each piece of work before it is tried: its name, and how many allocations it has.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

from otelagent import _native
from otelagent.bpf.object import BpfObject, object_path
from otelagent.bpf.sideband import Sideband
from otelagent.errors import AgentError
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.kallsyms import Kallsyms
from otelagent.symbolize.declared import read_sections
from otelagent.symbolize.demangle import demangle
from otelagent.symbolize.symtab import SymbolTable
from otelagent.unwind.extract import extract_both
from tests.bpf import rings
from tests.builders import dwarf
from tests.unwind.test_go import FUNCTIONS, build_pclntab, make_elf
from tests.unwind.walks import TEXT, World, rule

MOST = 40
"""Allocations that are let fail: of more, what follows is the same again."""


def drain():
    ring = rings.FakeRing()
    ring.put(rings.trace(5))
    ring.ring.drain()
    ring.ring.take()
    ring.ring.close()


def follow():
    sideband = Sideband()
    with contextlib.suppress(AgentError):
        sideband.want(5)
    sideband.close()


def find_symbols(elf):
    table = SymbolTable.read([elf])
    table.find(table.at(0)[0])


def open_object():
    with BpfObject.open(object_path("profiler")) as bpf:
        bpf.want_log(1)
        assert bpf.log == ""


def works(program: Path):
    elf = ElfFile(BytesSource(program.read_bytes()))
    go = make_elf(build_pclntab(FUNCTIONS))
    world = World({0x1000: rule()}, [TEXT + 0x20, 0], text={TEXT: bytes(64)})
    kallsyms = b"".join(b"ffffffff81%06x T f%d\n" % (i * 16, i) for i in range(2000))
    info = dwarf.unit(dwarf.entry(2, dwarf.ONE, 7))
    sections = {"info": info, "abbrev": dwarf.ABBREVS, "str": dwarf.STRINGS}
    return {
        "rows and code": lambda: extract_both(elf),
        "rows of Go": lambda: extract_both(go),
        "symbols": lambda: find_symbols(elf),
        "kallsyms": lambda: Kallsyms(kallsyms).find(0xFFFFFFFF81000008),
        "declared": lambda: read_sections(sections),
        "demangle": lambda: [demangle(b"_ZN3foo3barEv"), demangle(b"_RNvC1a1b")],
        "ring": drain,
        "side-band": follow,
        "unwinding": world.walk,
        "object": open_object,
    }


def main() -> None:
    scarce = ctypes.CDLL(None)
    code = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    (span,) = [each[0] for each in code if each[-1] == _native.__file__ and "x" in each[1]]
    start, end = (int(each, 16) for each in span.split("-"))
    scarce.scarce_watch(ctypes.c_void_p(start), ctypes.c_void_p(end))
    for name, work in works(Path(sys.argv[1])).items():
        scarce.scarce_begin(0)
        work()
        total = scarce.scarce_seen()
        sys.stdout.write(f"{total} {name}\n")
        sys.stdout.flush()
        for number in range(1, min(total, MOST) + 1):
            scarce.scarce_begin(number)
            with contextlib.suppress(AgentError, MemoryError, ValueError, AssertionError):
                work()
            scarce.scarce_seen()


main()
