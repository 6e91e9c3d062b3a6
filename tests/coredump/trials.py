# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the unwinders make of a recorded process when something fails: `trials.txt` of a case.

The threads are walked again and again: without the interpreters' threads that user space writes
down, with others in their place, with registers that lie, with words of memory changed or taken
away, and while all look-ups, or all reads, fail after the first N. A line tells how the stacks
ended then, and what they took. The first line is of the walk as it is: so a walk that takes more
than it took is noticed, too.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent._native import ffi
from otelagent.abi._generated import Fault, Limit, Reg
from otelagent.coredump.case import SNAPSHOT
from otelagent.dump.stacks import ImageUnwinder
from otelagent.host.snapshot import SnapshotImage
from otelagent.namers import Namers
from otelagent.unwind.extract import extract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otelagent.formats.registers import Registers
    from otelagent.host.image import ThreadImage

TRIALS = "trials.txt"
MOST_LOOKUPS, MOST_READS, MOST_WORDS = 40, 60, 60
WINDOW = int(Limit.FP_WINDOW_BYTES)
SP, FP = Reg.X86_RSP, Reg.X86_RBP
_STATES = struct.Struct("=4Q")
_HEAD_BYTES = ffi.sizeof("struct oa_trace")

States = tuple[int, ...]
"""Thread states of one thread, the newest first, filled up with zeros."""


def _replace(known: list[States]) -> dict[str, list[States | None]]:
    """Give what user space may have written down: of threads, too few, or of another time."""
    filled = [[state for state in each if state] for each in known]
    others = known[1:] + known[:1]
    return {
        "no thread is known": [None] * len(known),
        "each has a state of another thread": [
            (other[0], *each[:3]) for each, other in zip(known, others, strict=True)
        ],
        "the newest state is not known": [(*each[1:], 0) for each in known],
        "the oldest state comes first": [
            (*reversed(each), *(0,) * (4 - len(each))) for each in filled
        ],
    }


def _with(registers: Registers, number: int, value: int) -> Registers:
    gp = list(registers.gp)
    gp[number] = value & (1 << 64) - 1
    return dataclasses.replace(registers, gp=tuple(gp))


def _lie(registers: Registers) -> dict[str, Registers]:
    """Give what registers may be in code that nothing is known of."""
    sp = registers.gp[SP]
    frames = {
        "0": 0,
        "1": 1,
        **{f"sp{by:+d}": sp + by for by in (-8, -1, 0, 8, WINDOW, WINDOW + 1)},
    }
    places = {f"{pc:#x}": pc for pc in (0, 1, 0xFFF, 0x1000, (1 << 63) - 1, 1 << 63)}
    places |= {f"{by:+d}": registers.pc + by & (1 << 64) - 1 for by in range(-12, 13) if by}
    return {
        **{f"fp {name}": _with(registers, FP, value) for name, value in frames.items()},
        **{f"sp {by:+d}": _with(registers, SP, sp + by) for by in (-16, -8, 8, 16)},
        **{f"pc {name}": dataclasses.replace(registers, pc=pc) for name, pc in places.items()},
        **{
            f"pc {pc:#x}, of a caller": dataclasses.replace(registers, pc=pc, in_syscall=True)
            for pc in (0, 0xFFF, 0x1000, 1 << 62)
        },
        "the other kind of pc": dataclasses.replace(registers, in_syscall=not registers.in_syscall),
    }


class _Walks:
    """One case, to be walked under conditions."""

    def __init__(self, case: Path) -> None:
        self._image = SnapshotImage.open(case / SNAPSHOT)
        namers = Namers(symbols=False, debuginfod="", sysroot="")
        self._unwinder = ImageUnwinder(self._image, namers, rows=lambda _, elf: extract(elf))
        self._unwinder.prepare()
        runtimes = self._unwinder._runtimes
        self._threads = runtimes._threads
        self._host = self._unwinder.unwinder
        self._walked: list[tuple[int, tuple[int, int, int], bytes]] = []
        self._unwind: Callable[..., bytes | None] = self._host.unwind
        self._host.unwind = self._watch  # type: ignore[method-assign]
        self._walk()
        runtimes.prepare = lambda *_: None  # type: ignore[method-assign]  # it would mend that

    def _watch(self, *args: object, **named: object) -> bytes | None:
        record = self._unwind(*args, **named)
        assert record is not None
        trace = ffi.cast("struct oa_trace *", ffi.from_buffer(record))
        told = struct.pack("=QQ", trace.fault_pc, trace.sample.flags) + record[_HEAD_BYTES:]
        self._walked.append((trace.fault, self._host.spent, told))
        return record

    def _walk(self, change: Callable[[ThreadImage], ThreadImage] = lambda each: each) -> str:
        """Walk all threads; tells how that went."""
        self._walked.clear()
        with self._image.hold() as threads:
            self._unwinder.walk([change(each) for each in threads])
        ends = collections.Counter(Fault(fault).name for fault, _, _ in self._walked)
        taken = [sum(counts) for counts in zip(*(each[1] for each in self._walked), strict=True)]
        frames = sum(len(each[2]) // 16 - 1 for each in self._walked)
        check = zlib.crc32(b"".join(each[2] for each in self._walked))
        return (
            ", ".join(f"{count} {name}" for name, count in sorted(ends.items()))
            + f"; {frames} frames, {taken[0]} steps, {taken[1]} reads, {taken[2]} look-ups,"
            + f" check {check:08x}"
        )

    def run(self) -> Iterator[str]:
        """Walk under each condition."""
        plain = self._walk()
        yield f"as it is: {plain}"
        items = self._threads.items()
        known = [_STATES.unpack(value) for _, value in items]
        for name, states in _replace(known).items() if items else ():
            for (key, _), new in zip(items, states, strict=True):
                if new is None:
                    self._threads.delete(key)
                else:
                    self._threads[key] = _STATES.pack(*new)
            yield f"{name}: {self._walk()}"
        for key, value in items:
            self._threads[key] = value
        yield from self._with_lies()
        yield from self._without_words()
        for what, most in (("lookups", MOST_LOOKUPS), ("reads", MOST_READS)):
            for count in range(1, most + 1):
                self._host.limit(**{what: count})
                walked = self._walk()
                yield f"{count} {what}: {walked}"
                if walked == plain:
                    break
        self._host.limit()

    def _with_lies(self) -> Iterator[str]:
        """Walk with other registers."""
        with self._image.hold() as threads:
            names = next(list(_lie(each.registers)) for each in threads if each.registers)
        for name in names:

            def change(each: ThreadImage, name: str = name) -> ThreadImage:
                registers = each.registers and _lie(each.registers)[name]
                return dataclasses.replace(each, registers=registers)

            yield f"{name}: {self._walk(change)}"

    def _without_words(self) -> Iterator[str]:
        """Walk with words of memory, of those that were read and their neighbours, changed."""
        tables, memory = self._host.tables, self._image.snapshot.memory
        starts = [addr for addr, _ in memory]
        code = self._image.read_maps()[0]
        words = self._read_words()
        for word in words[:: -(-len(words) // MOST_WORDS)]:
            at = bisect.bisect_right(starts, word) - 1
            if at < 0 or word + 8 > starts[at] + len(memory[at][1]):
                continue
            offset = word - starts[at]
            before, old, after = (memory[at][1][part] for part in _around(offset))
            tagged = bytes([old[0] | 1]) + old[1:]
            for name, there in {
                "nothing": b"",
                "zero": bytes(8),
                "a tag": tagged,
                "the start of code": (code.start + 1).to_bytes(8, "little"),
                "the end of code": (code.end + 1).to_bytes(8, "little"),
            }.items():
                tables.drop_memory()
                pieces = [(starts[at], before), (word, there), (word + 8, after)]
                for addr, data in (*memory[:at], *pieces, *memory[at + 1 :]):
                    if data:
                        tables.add_memory(addr, data)
                yield f"{name} at {word:#x}: {self._walk()}"
        tables.drop_memory()
        self._image.lend_memory(tables)

    def _read_words(self) -> list[int]:
        """List the words that a walk reads, and those beside them."""
        tables = self._host.tables
        tables.note_reads(1 << 16)
        self._walk()
        noted = tables.noted_reads()
        tables.note_reads(0)
        return sorted({at for addr, size in noted for at in range(addr - 8, addr + size + 8, 8)})


def _around(offset: int) -> tuple[slice, slice, slice]:
    return slice(offset), slice(offset, offset + 8), slice(offset + 8, None)


def run_trials(case: Path) -> list[str]:
    """Walk a case under all conditions; a line of each."""
    return list(_Walks(case).run())


def read_trials(case: Path) -> list[str]:
    """Read what a case should give; nothing if it has no trials."""
    path = case / TRIALS
    return path.read_text().splitlines() if path.exists() else []


def write_trials(case: Path, lines: list[str]) -> None:
    """Write what a case should give."""
    (case / TRIALS).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        write_trials(folder, run_trials(folder))
