# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compare native frames of `dump` with gdb's and eu-stack's, by address.

Frames that are equal, when the stacks are aligned, are counted. Of stacks that differ it is told
where they begin to: `they end`, `they go on` (ours ended without a fault), `we end` (with the
fault), or the first two frames that differ. Frames of CPython's eval loop, which `dump` replaces,
are left out.

Others are asked only where they can know. They go by call frame information, so a stack is
compared up to

- the first address that no `.eh_frame` and no `.debug_frame` covers (code made at run time,
  assembly, Go without DWARF): from there on they guess;
- and with a function in which Go changes from one stack to another or begins one, for which there
  is no such information: those that Go's traceback stops at (`topofstack` in
  runtime/traceback.go), systemstack, cgocallback, and the trampoline of signals.

How many frames that leaves out is told, by the reason, and what comes out without this rule; and
of the callers that were left out, ours and theirs, how many lie right behind a `call`.
"""

from __future__ import annotations

import collections
import difflib
import functools
import re
import subprocess
from typing import TYPE_CHECKING

from otelagent.errors import AgentError
from otelagent.formats.elf import ElfFile
from otelagent.model import FrameType
from otelagent.unwind.cfi import add_cfi, find_debug_frame, find_eh_frame
from otelagent.unwind.rows import RowBuilder
from tests.coredump import oracle

if TYPE_CHECKING:
    from otelagent.dump.stacks import ThreadStack
    from otelagent.formats.proc_maps import MappedRange
    from otelagent.host.image import ProcessImage
    from otelagent.model import Frame

EVAL_LOOP = re.compile(r"_PyEval_EvalFrameDefault|_PyEval_Vector.*eval")
EU_THREAD, EU_FRAME = re.compile(r"TID (\d+):"), re.compile(r"#\d+\s+0x([0-9a-f]+)")
GO_SWITCH = re.compile(
    r"runtime\.(goexit|mstart|mcall|morestack(_noctxt)?|rt0_go|asmcgocall|systemstack|cgocallback|"
    r"sigreturn\w*)(\.abi0)?$"
)
LONGEST_CALL = 7
"""Bytes of `call` through a register and an offset."""

Stack = list[tuple[int, str]]
Found = dict[int, Stack]


def ours(image: ProcessImage, stacks: list[ThreadStack]) -> Found:
    """Give (address, function) of each native frame, by thread."""
    maps = image.read_maps()
    vdso = next((each.start for each in maps if each.path == "[vdso]"), 0)

    @functools.cache
    def bias(path: str) -> int | None:
        if path == "[vdso]":
            return vdso
        return next((value for _, _, value in oracle._bias(image, path)), None)  # noqa: SLF001

    def address(frame: Frame) -> int:
        if not frame.executable:
            return frame.address
        added = bias(frame.executable.path)
        if added is not None:
            return frame.address + added
        # No ELF file, as SBCL's core: the address is an offset in it.
        for each in maps:
            at = frame.address - each.offset
            if each.path == frame.executable.path and 0 <= at < each.end - each.start:
                return each.start + at
        return frame.address

    return {
        stack.thread.tid: [
            (address(frame), frame.lines[-1].function.name if frame.lines else "?")
            for frame in stack.trace.frames
            if frame.type not in (FrameType.KERNEL, FrameType.PYTHON)
        ]
        for stack in stacks
    }


class Described:
    """Tells what code of an image call frame information covers; by that alone, not by our rows."""

    def __init__(self, image: ProcessImage) -> None:
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

    def follows_call(self, address: int) -> bool:
        """Tell whether a call ends right before an address, where a caller's must lie (x86-64)."""
        try:
            code = self._image.read(address - LONGEST_CALL, LONGEST_CALL)
        except AgentError:
            return False
        indirect = (code[-n] == 0xFF and code[1 - n] >> 3 & 7 == 2 for n in range(2, 8))
        return code[-5] == 0xE8 or any(indirect)

    def where(self, pc: int) -> str:
        """Name the file of an address."""
        paths = (each.path for each in self._maps if each.start <= pc < each.end)
        return next(paths, "") or "made at run time"

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


def cut(own: Stack, theirs: Stack, described: Described) -> tuple[Stack, Stack, str]:
    """Cut both stacks where who goes by call frame information has none left, and say why."""
    for at, (pc, name) in enumerate(own):
        if not described.covers(pc):
            return own[:at], theirs[:at], f"no call frame information: {described.where(pc)}"
        if GO_SWITCH.match(name):
            same = [n for n, (other, _) in enumerate(theirs) if other in (pc, pc + 1)]
            kept = theirs[: same[0] + 1] if same else theirs
            return own[: at + 1], kept, "Go begins or changes a stack"
    return own, theirs, ""


def ask_gdb(*where: str) -> tuple[Found, set[int]]:
    """Ask gdb (`-p PID`, or a program and a core): stacks, and addresses in CPython's eval loop."""
    told = oracle.run_gdb(*where)
    loop = {f[0] for each in told.values() for f in each if EVAL_LOOP.match(f[1] or "")}
    found = {
        tid: [(pc, name or "?") for pc, name, kind in frames if kind != "error" and pc not in loop]
        for tid, frames in told.items()
    }
    return found, loop


def ask_eu_stack(eval_loop: set[int], *where: str) -> Found:
    """Ask elfutils (`-p PID` or `--core=FILE`), which needs no names."""
    command = ["eu-stack", "-q", "-n", "0", *where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: Found = {}
    for line in done.stdout.splitlines():
        if thread := EU_THREAD.match(line):
            stack = found.setdefault(int(thread[1]), [])
        elif frame := EU_FRAME.match(line):
            pc = int(frame[1], 16)
            if pc not in eval_loop:
                stack.append((pc, ""))
    return found


def aligned(own: Stack, theirs: Stack) -> tuple[int, int]:
    """Count the frames that are equal, and how many there are; a caller's is inside of its call."""
    mine, told = _addresses(own, theirs)
    blocks = difflib.SequenceMatcher(None, mine, told, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks), max(len(own), len(theirs))


def _addresses(own: Stack, theirs: Stack) -> tuple[list[int], list[int]]:
    mine = [pc for pc, _ in own]
    known = set(mine)
    return mine, [pc - 1 if pc not in known and pc - 1 in known else pc for pc, _ in theirs]


def first_difference(own: Stack, fault: str, theirs: Stack) -> str:
    """Tell where two stacks begin to differ."""
    mine, told = _addresses(own, theirs)
    pairs = zip(mine, told, strict=False)
    at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(mine), len(told)))
    after = own[at - 1][1] if at else "the top"
    if at == len(theirs):
        return f"they end after {after}"
    if at == len(own):
        return f"we end by {fault} after {after}" if fault else f"they go on after {after}"
    pair = f"{own[at][0]:#x} {own[at][1]}, they {theirs[at][0]:#x} {theirs[at][1]}"
    return f"after {after}: {pair}"


class NativeTally:
    """What came out for one asked, with the rule and without; frames by the reason."""

    def __init__(self) -> None:
        self.agreed = self.count = self.whole_agreed = self.whole_count = 0
        self.left_out: collections.Counter[str] = collections.Counter()
        self.beyond: collections.Counter[str] = collections.Counter()
        self.unexplained: collections.Counter[str] = collections.Counter()
        self.calls: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )

    def add(self, own: Stack, fault: str, theirs: Stack, described: Described) -> None:
        """Compare a stack."""
        mine, told, why = cut(own, theirs, described)
        agreed, count = aligned(mine, told)
        whole_agreed, whole_count = aligned(own, theirs)
        self.agreed += agreed
        self.count += count
        self.whole_agreed += whole_agreed
        self.whole_count += whole_count
        if agreed < count:
            self.unexplained[first_difference(mine, fault, told)] += count - agreed
        if why:
            self.left_out[why] += len(own) - len(mine)
            ours = [described.follows_call(pc + 1) for pc, _ in own[max(len(mine), 1) :]]
            others = [described.follows_call(pc) for pc, _ in theirs[max(len(told), 1) :]]
            self.calls[why] += collections.Counter(
                ours=sum(ours), of_ours=len(ours), theirs=sum(others), of_theirs=len(others)
            )
            self.beyond[why] += (whole_count - whole_agreed) - (count - agreed)

    def report(self, who: str) -> bool:
        """Print the sums; True if all is equal."""
        print(
            f"    {who}: {self.agreed} of {self.count}, unexplained: {self.unexplained.total()}; "
            f"without the rule {self.whole_agreed} of {self.whole_count}"
        )
        for why, frames in self.left_out.items():
            if frames or self.beyond[why]:
                calls = self.calls[why]
                print(
                    f"        {why}: {frames} left out, {self.beyond[why]} of whole stacks differ; "
                    f"behind a call: ours {calls['ours']} of {calls['of_ours']}, "
                    f"theirs {calls['theirs']} of {calls['of_theirs']}"
                )
        for what, frames in self.unexplained.most_common(8):
            print(f"        UNEXPLAINED: {frames} frames: {what}")
        return not self.unexplained
