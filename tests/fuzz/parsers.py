# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Feeds the parsers that are Python mutated inputs: `parsers.py PARSER SECONDS SEED SAVE [FILE…]`.

As `main.c` does for those in C. A parser may refuse an input by its own error and by
no other, takes at most a second of CPU for it, and memory may grow by 64 MiB in all.
It prints how many inputs there were, the most CPU time of one in ms, and by how many KiB
memory grew.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.abi._generated import Limit
from otelagent.dump import stacks
from otelagent.errors import BadElf, FormatError, TargetError
from otelagent.formats.code_object import ITERATORS, find_line
from otelagent.formats.core_file import parse_core
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.gnu_hash import may_export
from otelagent.formats.gopclntab import GoTable
from otelagent.formats.jitdump import JitDump, parse_header
from otelagent.formats.kallsyms import Kallsyms
from otelagent.formats.perf_map import CodeMap, parse_perf_map
from otelagent.formats.proc_maps import parse_executable
from otelagent.host.core import CoreImage
from otelagent.host.files import FileSource
from otelagent.namers import Namers, detect
from otelagent.unwind.extract import extract

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.formats.elf import Source
    from otelagent.interpreters.registry import Detected
    from otelagent.unwind.rows import RowTable

MAX_INPUT = 1 << 16
MAX_GROWTH_KIB = 64 << 10
CPU_SECONDS = 1.0
NO_FILES = Path("/proc/self/fdinfo")
"""A directory in which no path leads to an ELF file."""
RECORDED_ROOT = Path(__file__).resolve().parents[2] / "build" / "fuzz" / "root"
"""Where the files of recorded processes lie (`seeds.py`)."""
WORDS = (0, 1, 1 << 31, 1 << 32, (1 << 47) - 8, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
EDGES = (b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x80", b"\x7f", b"\n", b" ")


def parse_elf(data: bytes) -> None:
    """Ask an ELF file for everything that it can tell."""
    with contextlib.suppress(BadElf):
        elf = ElfFile(BytesSource(data))
        for ask in (
            lambda: [elf.section_data(section) for section in elf.sections],
            lambda: (elf.segments, elf.executable_loads(), elf.offset_of(0x1000)),
            lambda: (elf.notes, elf.build_id, elf.go_build_id),
            lambda: (elf.dynamic, elf.soname),
            lambda: elf.find_symbols("main", "_start"),
            lambda: may_export(elf, "main"),
            lambda: GoTable(elf).find(0x1000),
        ):
            with contextlib.suppress(BadElf):
                ask()


def parse_map(data: bytes) -> None:
    """Read a perf map in two pieces, and look addresses up."""
    code = CodeMap()
    used = parse_perf_map(data[: len(data) // 2], code)
    parse_perf_map(data[used:], code, used)
    for addr in (0, 0x1000, 0x2008, (1 << 64) - 1):
        code.find(addr)


def parse_jitdump(data: bytes) -> None:
    """Read a jitdump."""
    with contextlib.suppress(FormatError):
        state = JitDump()
        state.feed(data[parse_header(data) :])
        state.find(0x1008)


def parse_code(data: bytes) -> None:
    """Look lines up in a table of a code object, as if it were of each kind."""
    for kind in ITERATORS:
        for offset in (-1, 0, 7, 1 << 20):
            find_line(kind, data, 1, offset)


def parse_kallsyms(data: bytes) -> None:
    """Read kallsyms."""
    table = Kallsyms(data)
    table.find(0x1008)
    table.module_of(0x1008)


def parse_core_file(data: bytes) -> None:
    """Read what a core file says of threads, memory and files."""
    with contextlib.suppress(FormatError):
        core = parse_core(BytesSource(data))
        for thread in core.threads:
            thread.registers(core.machine)


def _open_core(data: bytes, sysroot: Path) -> CoreImage | None:
    fd = os.memfd_create("core")
    os.write(fd, data)
    try:
        return CoreImage(FileSource(fd), sysroot=sysroot)
    except FormatError:
        os.close(fd)
        return None


def unwind_core(data: bytes) -> None:
    """Unwind and name all threads of a core file; no file of this machine is looked at."""
    if image := _open_core(data, NO_FILES):
        with image, contextlib.suppress(TargetError):
            found = stacks.unwind(image, Namers(symbols=True, debuginfod="", sysroot=str(NO_FILES)))
            _check_depths(found)


def unwind_recorded(data: bytes) -> None:
    """Unwind the core file of a recorded process, and name what memory names.

    Its files, which are never mutated, are read once.
    """
    if image := _open_core(data, RECORDED_ROOT):
        with image, contextlib.suppress(TargetError):
            namers = Namers(symbols=False, debuginfod="", sysroot=str(NO_FILES))
            unwinder = stacks.ImageUnwinder(image, namers, rows=_rows_of)
            unwinder.executables.detect = _detect_once
            unwinder.prepare()
            with image.hold() as threads:
                raws = unwinder.walk(threads)
            _check_depths([unwinder.name(*pair) for pair in zip(threads, raws, strict=True)])


def _check_depths(found: list[stacks.ThreadStack]) -> None:
    assert all(len(each.trace.frames) <= Limit.MAX_USER_FRAMES for each in found)


_ROWS: dict[object, RowTable] = {}
_DETECTED: dict[object, Detected | None] = {}


def _rows_of(source: Source, elf: ElfFile) -> RowTable:
    if not isinstance(source, FileSource):  # the vDSO, from the core
        return extract(elf)
    if source.key not in _ROWS:
        _ROWS[source.key] = extract(elf)
    return _ROWS[source.key]


def _detect_once(elf: ElfFile) -> Detected | None:
    source = elf.source
    if not isinstance(source, FileSource):
        return detect(elf)
    if source.key not in _DETECTED:
        _DETECTED[source.key] = detect(elf)
    return _DETECTED[source.key]


PARSERS: dict[str, Callable[[bytes], object]] = {
    "elf": parse_elf,
    "perf_map": parse_map,
    "jitdump": parse_jitdump,
    "code_object": parse_code,
    "kallsyms": parse_kallsyms,
    "proc_maps": lambda data: list(parse_executable(data)),
    "core_file": parse_core_file,
    "core": unwind_core,
    "recorded": unwind_recorded,
}


def change(data: bytearray, chance: random.Random, others: list[bytes]) -> None:
    """Make one small change."""
    at = chance.randrange(len(data) + 1)
    kind = chance.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = chance.randrange(256)
    elif kind == 2:
        edge = chance.choice(EDGES)
        data[at : at + len(edge)] = edge
    elif kind == 3:
        del data[at : at + chance.randrange(16)]
    elif kind == 4:
        data[at:at] = data[at : at + chance.randrange(16)]
    elif kind == 5:
        other = chance.choice(others)
        start = chance.randrange(len(other) + 1)
        data[at : at + 32] = other[start : start + 32]
    elif chance.randrange(4) == 0:
        del data[at:]


def change_word(data: bytearray, chance: random.Random, _others: list[bytes]) -> None:
    """Let a word that is in use be an edge, another word of the data, or a little off.

    So pointers lead to what is of another kind, to themselves and in circles.
    """
    words = memoryview(data)[: len(data) & -8].cast("Q")
    used = [chance.randrange(len(words)) for _ in range(16) if words]
    used = [at for at in used if words[at]]
    if len(used) < 2:
        return
    at, other = used[0], used[chance.randrange(1, len(used))]
    near = at + chance.randrange(-16, 17)
    if 0 <= near < len(words) and chance.randrange(2):
        other = near
    value = chance.choice((words[other], words[at] + chance.randrange(-64, 65), *WORDS))
    words[at] = value & (1 << 64) - 1


def check_growth(before_kib: int) -> int:
    """End the run if memory has grown too much; returns by how much."""
    growth = resident_kib() - before_kib
    if growth > MAX_GROWTH_KIB:
        raise MemoryError(f"memory grew by more than {MAX_GROWTH_KIB} KiB")
    return growth


def resident_kib() -> int:
    """Tell the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def on_cpu_time(_number: int, _frame: object) -> None:
    """End the run: an input takes too long."""
    raise TimeoutError(f"an input takes longer than {CPU_SECONDS} s of CPU")


def mutate(name: str, seeds: list[bytes], chance: random.Random) -> bytes:
    """Make an input of one of the seeds."""
    data = bytearray(chance.choice(seeds))
    limit = max(MAX_INPUT, len(data))
    for _ in range(chance.randrange(1, 17)):
        by_words = name == "recorded" and chance.randrange(16)
        (change_word if by_words else change)(data, chance, seeds)
    return bytes(data[:limit])


def main(name: str, seconds: float, seed: int, save: Path, files: list[Path]) -> int:
    """Run mutated inputs for some seconds; prints how many, and what the worst took."""
    parse, chance = PARSERS[name], random.Random(seed)
    seeds = [path.read_bytes() for path in files] or [bytes(64)]
    signal.signal(signal.SIGPROF, on_cpu_time)
    for data in seeds:
        parse(data)
    before, count, end = resident_kib(), 0, time.monotonic() + seconds
    growth, worst = 0, 0.0
    while time.monotonic() < end:
        data = mutate(name, seeds, chance)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            parse(data)
            growth = check_growth(before)
        except BaseException:
            save.write_bytes(data)
            raise
        signal.setitimer(signal.ITIMER_PROF, 0)
        worst = max(worst, time.process_time() - began)
        count += 1
    sys.stdout.write(f"{count} {worst * 1000:.1f} {growth}\n")
    return 0


if __name__ == "__main__":
    what, how_long, number, where, *inputs = sys.argv[1:]
    sys.exit(main(what, float(how_long), int(number), Path(where), [Path(each) for each in inputs]))
