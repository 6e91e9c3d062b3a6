# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compare `dump` with others: `compare_stacks.py [-n TIMES] (-p PID | -- COMMAND…)`.

The processes (of a COMMAND: all that it starts) are halted by SIGSTOP a few times; while they
stand gdb, eu-stack and py-spy are asked, too. Frames are compared by address; those that are
equal, when the stacks are aligned, are counted. Of stacks that differ it is told where they begin
to: `they end`, `they go on` (ours ended without a fault), `we end` (with the fault), or the first
two frames that differ. Frames of CPython's eval loop, which `dump` replaces, are left out; Python's
are compared with py-spy's. Needs gdb, elfutils, and to be root.

Others are asked only where they can know. They go by call frame information, so a stack is
compared up to

- the first address that no `.eh_frame` and no `.debug_frame` covers (code made at run time,
  assembly, Go without DWARF): from there on they guess;
- and with a function in which Go changes from one stack to another or begins one, for which there
  is no such information: those that Go's traceback stops at (`topofstack` in
  runtime/traceback.go), systemstack, cgocallback, and the trampoline of signals.

How many frames that leaves out is told, and what comes out without this rule: then nothing is left
out, and of each place where stacks differ it is told what it says.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import difflib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from otelagent.dump.stacks import ThreadStack, take  # noqa: E402 (after the path is set)
from otelagent.errors import AgentError  # noqa: E402
from otelagent.formats.elf import ElfFile  # noqa: E402
from otelagent.host.live import LiveImage  # noqa: E402
from otelagent.model import FrameType  # noqa: E402
from otelagent.unwind.cache import RowCache, default_directory  # noqa: E402
from otelagent.unwind.cfi import add_cfi, find_debug_frame, find_eh_frame  # noqa: E402
from otelagent.unwind.rows import RowBuilder  # noqa: E402
from tests.coredump import oracle  # noqa: E402 (beside the tests, not installed)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.formats.proc_maps import MappedRange

EVAL_LOOP = re.compile(r"_PyEval_EvalFrameDefault|_PyEval_Vector.*eval")
EU_THREAD, EU_FRAME = re.compile(r"TID (\d+):"), re.compile(r"#\d+\s+0x([0-9a-f]+)")
GO_SWITCH = re.compile(
    r"runtime\.(goexit|mstart|mcall|morestack(_noctxt)?|rt0_go|asmcgocall|systemstack|cgocallback|"
    r"sigreturn\w*)(\.abi0)?$"
)
PER_INSTANT = 4
"""Processes of a command that are looked at each time."""

Stack = list[tuple[int, str]]
Found = dict[int, Stack]


def ours(image: LiveImage, stacks: list[ThreadStack]) -> Found:
    """Give (address, function) of each native frame, by thread."""
    vdso = next((each.start for each in image.read_maps() if each.path == "[vdso]"), 0)

    @functools.cache
    def bias(path: str) -> int:
        if path == "[vdso]":
            return vdso
        return next((value for _, _, value in oracle._bias(image, path)), 0)  # noqa: SLF001

    return {
        stack.thread.tid: [
            (
                frame.address + (bias(frame.executable.path) if frame.executable else 0),
                frame.lines[-1].function.name if frame.lines else "?",
            )
            for frame in stack.trace.frames
            if frame.type not in (FrameType.KERNEL, FrameType.PYTHON)
        ]
        for stack in stacks
    }


class Described:
    """Tells what code of an image call frame information covers; by that alone, not by our rows."""

    def __init__(self, image: LiveImage) -> None:
        self._image = image
        self._maps = image.read_maps()
        self._builders: dict[str, tuple[RowBuilder, ElfFile] | None] = {}

    def covers(self, pc: int) -> bool:
        """Tell whether an address has information."""
        for each in self._maps:
            if each.start <= pc < each.end:
                found = self._of(each) if each.inode else None
                if found is None:
                    return each.path == "[vdso]"
                addr = found[1].address_of(pc - each.start + each.offset)
                return addr is not None and found[0].around(addr)[0]
        return False

    def _of(self, mapped: MappedRange) -> tuple[RowBuilder, ElfFile] | None:
        if mapped.path not in self._builders:
            try:
                elf = ElfFile(self._image.open_mapped(mapped))
                builder = RowBuilder(
                    [(s.vaddr, s.vaddr + s.filesz) for s in elf.executable_loads()]
                )
                for section in (find_eh_frame(elf), find_debug_frame(elf)):
                    if section is not None:
                        add_cfi(builder, elf, section)
                self._builders[mapped.path] = builder, elf
            except AgentError:
                self._builders[mapped.path] = None
        return self._builders[mapped.path]


def cut(own: Stack, theirs: Stack, described: Described) -> tuple[Stack, Stack]:
    """Cut both stacks where who goes by call frame information has none left."""
    for at, (pc, name) in enumerate(own):
        if not described.covers(pc):
            return own[:at], theirs[:at]
        if GO_SWITCH.match(name):
            same = [n for n, (other, _) in enumerate(theirs) if other in (pc, pc + 1)]
            return own[: at + 1], theirs[: same[0] + 1] if same else theirs
    return own, theirs


def ask_eu_stack(pid: int, eval_loop: set[int]) -> Found:
    """Ask elfutils, which needs no names."""
    done = subprocess.run(
        ["eu-stack", "-q", "-n", "0", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    found: Found = {}
    for line in done.stdout.splitlines():
        if thread := EU_THREAD.match(line):
            stack = found.setdefault(int(thread[1]), [])
        elif frame := EU_FRAME.match(line):
            pc = int(frame[1], 16)
            if pc not in eval_loop:
                stack.append((pc, ""))
    return found


def ask_py_spy(pid: int, stacks: list[ThreadStack]) -> tuple[int, int]:
    """Tell how many Python frames are py-spy's, too, and how many there are."""
    program = Path(sys.executable).with_name("py-spy")
    done = subprocess.run(
        [program, "dump", "-p", str(pid), "--json", "--nonblocking"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return 0, 0
    said = {
        each["os_thread_id"] or each["thread_id"]: [
            (f["name"], f["line"]) for f in each["frames"] if f["name"] != "<shim>"
        ]
        for each in json.loads(done.stdout)
    }
    agreed = count = 0
    for stack in stacks:
        own = [(re.sub(r".*\.", "", n), line) for n, line in oracle.python_frames(stack)]
        registers = stack.thread.registers  # of CPython before 3.10 it tells the thread's pointer
        key = registers.thread_pointer if registers and stack.thread.tid not in said else 0
        told = said.get(key or stack.thread.tid, [])
        theirs = [(re.sub(r".*\.", "", n), line) for n, line in told]
        count += max(len(own), len(theirs))
        agreed += sum(a == b for a, b in zip(own, theirs, strict=False))
    return agreed, count


class Tally:
    """What came out for one asked."""

    def __init__(self) -> None:
        self.agreed = self.count = self.left_out = 0
        self.differences: collections.Counter[str] = collections.Counter()

    def add(self, own: Stack, fault: str, theirs: Stack) -> None:
        """Compare a stack; of a caller ours is an address inside of the call."""
        mine = [pc for pc, _ in own]
        known = set(mine)
        told = [pc - 1 if pc not in known and pc - 1 in known else pc for pc, _ in theirs]
        blocks = difflib.SequenceMatcher(None, mine, told, autojunk=False).get_matching_blocks()
        same = sum(block.size for block in blocks)
        self.count += max(len(own), len(theirs))
        self.agreed += same
        if same == len(own) == len(theirs):
            return
        pairs = zip(mine, told, strict=False)
        at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(mine), len(told)))
        after = own[at - 1][1] if at else "the top"
        if at == len(theirs):
            what = f"they end after {after}"
        elif at == len(own):
            what = f"we end by {fault} after {after}" if fault else f"they go on after {after}"
        else:
            pair = f"{own[at][0]:#x} {own[at][1]}, they {theirs[at][0]:#x} {theirs[at][1]}"
            what = f"after {after}: {pair}"
        self.differences[what] += max(len(own), len(theirs)) - same


def descendants(pid: int) -> Iterator[int]:
    """Give a process and what it started, those that take the CPU first."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                yield from descendants(int(child))


def _cpu(pid: int) -> int:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return -1


def compare(pid: int, tallies: dict[str, Tally]) -> None:
    """Halt a process, and ask."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(0.05)
        image = LiveImage(pid)
        with contextlib.closing(image):
            stacks = take(image, cache=RowCache(default_directory())).stacks
            mine = ours(image, stacks)
            described = Described(image)
            told = oracle.run_gdb("-p", str(pid))
        loop = {f[0] for each in told.values() for f in each if EVAL_LOOP.match(f[1] or "")}
        gdb = {
            tid: [
                (pc, name or "?") for pc, name, kind in frames if kind != "error" and pc not in loop
            ]
            for tid, frames in told.items()
        }
        for name, theirs in (("gdb", gdb), ("eu-stack", ask_eu_stack(pid, loop))):
            for stack in stacks:
                if not stack.thread.problem:
                    tid = stack.thread.tid
                    parts = cut(mine[tid], theirs.get(tid, []), described)
                    tallies[name].left_out += len(mine[tid]) - len(parts[0])
                    tallies[name].add(parts[0], stack.trace.fault, parts[1])
                    whole = tallies[f"{name} without the rule"]
                    whole.add(mine[tid], stack.trace.fault, theirs.get(tid, []))
        if any(frame.type is FrameType.PYTHON for each in stacks for frame in each.trace.frames):
            agreed, count = ask_py_spy(pid, stacks)
            tallies["py-spy"].agreed += agreed
            tallies["py-spy"].count += count
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def main() -> int:
    """Compare and print; 1 if gdb agrees with less than 99 %."""
    parser = argparse.ArgumentParser(description=__doc__, usage=__doc__)
    parser.add_argument("-n", type=int, default=4)
    parser.add_argument("-p", "--pid", type=int)
    parser.add_argument("-w", "--wait", type=float, default=0.7)
    parser.add_argument("command", nargs="*")
    given = parser.parse_args()
    child = None
    if given.pid is None:
        child = subprocess.Popen(
            given.command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    done = 0
    for _ in range(given.n):
        time.sleep(given.wait)
        if child is None:
            pids = [given.pid]
        else:
            pids = sorted(set(descendants(child.pid)), key=_cpu, reverse=True)[:PER_INSTANT]
        for pid in pids:
            try:
                compare(pid, tallies)
                done += 1
            except (AgentError, RuntimeError, OSError, ValueError) as err:
                print(f"  {pid}: {err}", file=sys.stderr)
    if child is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    name = " ".join(given.command)[:60] or str(given.pid)
    said = ", ".join(
        f"{who} {t.agreed} of {t.count}" + f" ({t.left_out} left out)" * bool(t.left_out)
        for who, t in tallies.items()
    )
    print(f"{name}: {done} instants; {said}")
    for who, tally in tallies.items():
        for what, frames in tally.differences.most_common(8):
            print(f"    {who}: {frames} frames: {what}")
    gdb = tallies["gdb"]
    return int(gdb.agreed < 0.99 * gdb.count)


if __name__ == "__main__":
    sys.exit(main())
