# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compare a halted process's Python frames with py-spy's, and say why they differ.

Facts come from the halted process itself: each frame of a thread's chain, in Python and by no code
of the unwinders, with its instruction, and whether it has begun (`_PyFrame_IsIncomplete` in
Include/internal/pycore_frame.h of 3.11 to 3.13, pycore_interpframe.h of 3.14 and 3.15; up to 3.10
f_lasti is -1 before the first instruction). A difference is explained if these facts leave no
other:

- NOT_BEGUN: the frame has not reached its first traceable instruction. CPython 3.11 and newer hides
  it from Python, and so do we; who walks the chain as it lies there shows it.
- LINE: the same frame, not begun, on another line. CPython says it is on the function's first
  (`PyCode_Addr2Line` with a negative offset), and so do we.
- SKIPPED: the same frame on another line, the one that py-spy's reading of the line table gives:
  it does not count instructions without a line (`skip_line`).
- STOPPED: `faulthandler` of 3.15 ends with a frame that has not begun, and has no line.

All else is UNEXPLAINED: also if our frames are not those of the chain that have begun.

`faulthandler` tells the same chain with CPython's own code, where a program has registered it for
signals (`integration/workloads/python/shuffled.py`): they are sent while it is halted, so that each
thread answers before it executes anything else.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import difflib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.abi._generated import PythonKind
from otelagent.errors import AgentError
from otelagent.formats.code_object import ITERATORS, LineTable
from otelagent.formats.elf import ElfFile
from otelagent.interpreters.python import PythonFrames, attach, detect
from otelagent.interpreters.python.frames import RawFrame, code_check
from tests.coredump import oracle

if TYPE_CHECKING:
    from otelagent.dump.stacks import ThreadStack
    from otelagent.formats.proc_maps import MappedRange
    from otelagent.host.image import ProcessImage
    from otelagent.interpreters.python import PythonBuild
    from otelagent.protocols import Memory

Said = list[tuple[str, int]]
NOT_BEGUN = "frames that have not begun, hidden by CPython"
LINE = "lines in frames that have not begun"
SKIPPED = "lines where py-spy skips instructions without a line"
STOPPED = "frames behind one without a line, where faulthandler ended"
UNEXPLAINED = "unexplained"
MOST_FRAMES = 2_000
FAULTHANDLER_FRAMES = 100
"""How many frames `faulthandler` writes (MAX_FRAME_DEPTH in Python/traceback.c)."""
PATIENCE_S, STARTS_S = 10.0, 60.0
SIGNALS = 16
"""For as many `shuffled.py` registers it."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A frame as it lies in memory; `lasti` and `first` (the first traceable one) in bytes.

    `skipping` is the line that comes out if ranges without a line are left out of the table.
    """

    address: int
    name: str
    line: int
    lasti: int
    first: int
    owner: int
    begun: bool
    skipping: int

    def __str__(self) -> str:
        at = f"instruction {self.lasti}, first {self.first}, owner {self.owner}"
        return f"{self.address:#x} {self.name}:{self.line} ({at}{', not begun' * (not self.begun)})"


Builds = dict[tuple[str, int], "PythonBuild | None"]
"""What files are as interpreters, by path and inode."""


def _build(image: ProcessImage, mapped: MappedRange) -> PythonBuild | None:
    with contextlib.suppress(AgentError):
        return detect(ElfFile(image.open_mapped(mapped)))
    return None


class PythonFacts:
    """Reads the frames of a halted process's threads; `minor` is 0 where it is no CPython."""

    def __init__(self, image: ProcessImage, builds: Builds) -> None:
        self._memory: Memory = image
        self._states: dict[int, tuple[int, ...]] = {}
        self.minor = 0
        for mapped in image.read_maps():
            if not mapped.inode or self.minor:
                continue
            key = mapped.path, mapped.inode
            if key not in builds:
                builds[key] = _build(image, mapped)
            build = builds[key]
            bias = oracle._bias(image, mapped.path) if build else []  # noqa: SLF001
            if build and bias:
                process = attach(build, bias[0][2], image)
                self.minor, self._layout = build.minor, process.layout
                self._names = PythonFrames(process.layout, image)
                self._states = {each.key: each.states for each in process.read_threads(image)}

    def chain(self, thread: int) -> list[Fact]:
        """Walk the newest thread state that has frames; a thread is told by its pointer."""
        for state in self._states.get(thread, ()):
            found: list[Fact] = []
            at = self._newest(state)
            while at and len(found) < MOST_FRAMES:
                fact, at = self._fact(at)
                if fact is not None:
                    found.append(fact)
            if found:
                return found
        return []

    @property
    def hides(self) -> bool:
        """Tell whether this CPython hides frames that have not begun."""
        return self._layout.kind != PythonKind.PY_OBJECT

    def _word(self, address: int, size: int = 8, *, signed: bool = False) -> int:
        return int.from_bytes(self._memory.read(address, size), "little", signed=signed)

    def _newest(self, state: int) -> int:
        found = self._word(state + self._layout.thread_frame)
        if self._layout.kind == PythonKind.PY_CFRAME:
            return self._word(found + self._layout.cframe_frame)
        return found

    def _fact(self, address: int) -> tuple[Fact | None, int]:
        """Read a frame, None where C's (`FRAME_OWNED_BY_CSTACK`), and its caller's address."""
        at = self._layout
        older = self._word(address + at.frame_previous)
        code = self._word(address + at.frame_code) & ~7  # 3.14 has tags in references
        first, owner = 0, at.owner_generator
        if self.hides:
            owner = self._word(address + at.frame_owner, 1)
            if not at.entry_shown and owner >= at.entry_value:
                return None, older
            lasti = self._word(address + at.frame_instr) - code - at.code_instructions
            first = 2 * self._word(code + at.code_first_traceable, 4)
            begun = owner == at.owner_generator or lasti >= first
        else:
            lasti = self._word(address + at.frame_instr, 4, signed=True)
            begun = lasti >= 0
        raw = RawFrame(code, self._check(code), lasti)
        named = self._names.name(*raw.encode())
        name, line, skipping = ("?", 0, 0)
        if named.lines:
            name, line = short(named.lines[0].function.name), named.lines[0].line
            table = self._names.read(raw).table
            start = named.lines[0].function.start_line
            skipping = skip_line(at.lines, table, start, lasti * at.lasti_scale)
        return Fact(
            address, name, line, lasti * at.lasti_scale, first, owner, begun, skipping
        ), older

    def _check(self, code: int) -> int:
        at = self._layout
        return code_check(at, self._memory.read(code + at.code_block, 32))


def skip_line(kind: LineTable, table: bytes, first_line: int, offset: int) -> int:
    """Find a line as py-spy does (`get_line_number` in src/python_interpreters.rs).

    In the table of 3.10 it leaves ranges without a line out, so that all behind them lie at smaller
    offsets, and takes the first range for a negative offset; from 3.11 on such ranges have the line
    before.
    """
    line, at = first_line, 0
    for start, end, found in ITERATORS[kind](table, first_line):
        if not found and kind is LineTable.RANGES:
            continue
        line = found or line
        at = at + end - start if kind is LineTable.RANGES else end
        if at > offset:
            break
    return line


def short(name: str) -> str:
    """Leave the qualification of a name out, which not all tell."""
    return re.sub(r".*\.", "", name)


def ask_py_spy(*where: str) -> dict[int, Said]:
    """Ask py-spy (`-p PID` or `--core FILE`): thread → frames. Empty if it does not know how."""
    program = Path(sys.executable).with_name("py-spy")
    command = [program, "dump", *where, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {}
    return {
        each["os_thread_id"] or each["thread_id"]: [
            (short(f["name"]), f["line"]) for f in each["frames"] if f["name"] != "<shim>"
        ]
        for each in json.loads(done.stdout)
    }


def ask_faulthandler(pid: int, tids: list[int], folder: Path) -> dict[int, Said]:
    """Let each thread of a halted process tell its own stack before it goes on; then halt again.

    Nothing where the program has not registered `faulthandler` yet, or another thread was telling
    its stack at that moment (`reentrant` in Modules/faulthandler.c).
    """
    files = sorted(folder.iterdir(), key=lambda path: int(path.name))
    asked = {tid: path for tid, path in zip(tids, files, strict=False) if _catches(pid, path)}
    for tid, path in asked.items():
        os.truncate(path, 0)
        ctypes.CDLL(None).tgkill(pid, tid, signal.SIGRTMIN + int(path.name))
    os.kill(pid, signal.SIGCONT)
    end = time.monotonic() + PATIENCE_S
    quiet = 0
    while time.monotonic() < end and quiet < 2:
        time.sleep(0.02)
        quiet = 0 if any(_answers(pid, *each) for each in asked.items()) else quiet + 1
    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
        print(f"process {pid} died while faulthandler told its stacks")  # seen of 3.13.0
        return {}
    os.kill(pid, signal.SIGSTOP)
    texts = {tid: path.read_text() for tid, path in asked.items()}
    return {tid: parse_faulthandler(text) for tid, text in texts.items() if text}


def _has_signal(status: str, mask: str, path: Path) -> bool:
    """Tell whether the signal that a file is for is in a mask of /proc/…/status."""
    found = int(status.partition(f"{mask}:")[2].split()[0], 16)
    return bool(found >> (signal.SIGRTMIN + int(path.name) - 1) & 1)


def _catches(pid: int, path: Path) -> bool:
    return _has_signal(Path(f"/proc/{pid}/status").read_text(), "SigCgt", path)


def _answers(pid: int, tid: int, path: Path) -> bool:
    """Tell whether a thread has yet to answer, or does so now: then the signal is blocked."""
    status = Path(f"/proc/{pid}/task/{tid}/status").read_text()
    return any(_has_signal(status, each, path) for each in ("SigPnd", "SigBlk"))


SAID = re.compile(r'  File "(?:.*)", line (\d+|\?\?\?) in (.*)')


def parse_faulthandler(text: str) -> Said:
    """Read a stack of `faulthandler`: 0 where it knows no line."""
    return [
        (short(found[2]), int(found[1]) if found[1].isdigit() else 0)
        for found in map(SAID.match, text.splitlines())
        if found
    ]


@dataclass(slots=True)
class Verdict:
    """What came out, of one stack or of many: frames by class, and what is to be looked at."""

    equal: int = 0
    count: int = 0
    stacks: int = 0
    differing: int = 0
    classes: collections.Counter[str] = field(default_factory=collections.Counter)

    def add(self, other: Verdict) -> None:
        """Add another's."""
        self.equal += other.equal
        self.count += other.count
        self.stacks += other.stacks
        self.differing += other.differing
        self.classes += other.classes


def explain(
    own: Said, chain: list[Fact], said: Said, *, hides: bool, skips: bool = False
) -> Verdict:
    """Compare our frames with what another says, and find the class of each difference.

    Frames that both have count as equal when the stacks are aligned; the others, and the pairs
    that are not equal, as many times as the one of us has frames who has more.
    """
    verdict = Verdict(len(own), max(len(own), len(said)), 1, int(own != said))
    if own == said:
        return verdict
    visible = [(f.name, f.line) for f in chain if f.begun or not hides]
    ends = bool(said) and not skips and said[-1][1] == 0 and len(said) < len(chain)
    if ends and own == visible and not chain[len(said) - 1].begun:
        verdict.classes[STOPPED] = len(chain) - len(said)
        said = [*said, *((f.name, f.line) for f in chain[len(said) :])]
        verdict.count = len(said)
    if own == visible and len(said) == len(chain):
        for fact, (name, line) in zip(chain, said, strict=True):
            if hides and not fact.begun:
                verdict.classes[NOT_BEGUN if fact.name == name else UNEXPLAINED] += 1
            elif (fact.name, fact.line) != (name, line):
                verdict.classes[_line_class(fact, name, line if skips else -1)] += 1
        verdict.equal = verdict.count - verdict.classes.total()
    else:
        blocks = difflib.SequenceMatcher(None, own, said, autojunk=False).get_matching_blocks()
        verdict.equal = sum(block.size for block in blocks)
        verdict.classes[UNEXPLAINED] = verdict.count - verdict.equal
    return verdict


def _line_class(fact: Fact, name: str, line: int) -> str:
    if fact.name != name or line != fact.skipping:
        return UNEXPLAINED
    return SKIPPED if fact.begun else LINE


class PythonTally:
    """Compares the Python frames of halted processes, and keeps what came out by who was asked."""

    def __init__(self, folder: Path | None, *, verbose: bool) -> None:
        self._folder = folder
        self._verbose = verbose
        self._builds: Builds = {}
        self.verdicts: dict[str, Verdict] = collections.defaultdict(Verdict)

    def wait(self, pid: int) -> None:
        """Wait until a program has registered `faulthandler`, if it is to."""
        end = time.monotonic() + (STARTS_S if self._folder else 0)
        while self._folder and time.monotonic() < end:
            time.sleep(0.05)
            paths = list(self._folder.iterdir())
            if len(paths) == SIGNALS and all(_catches(pid, path) for path in paths):
                return

    def ask(self, image: ProcessImage, stacks: list[ThreadStack], where: tuple[str, str]) -> None:
        """Ask py-spy (`where` is how), and `faulthandler` if a folder is given."""
        facts = PythonFacts(image, self._builds)
        if not facts.minor:
            return
        pointers = {
            s.thread.tid: s.thread.registers.thread_pointer for s in stacks if s.thread.registers
        }
        told = {"py-spy": ask_py_spy(*where, *["--nonblocking"] * (where[0] == "-p"))}
        told = {who: said for who, said in told.items() if said}
        chains = {tid: facts.chain(pointer) for tid, pointer in pointers.items()}
        lying = {tid: [(f.name, f.line) for f in chain] for tid, chain in chains.items()}
        told["chain"] = lying
        if self._folder:
            told["faulthandler"] = ask_faulthandler(image.pid, list(pointers), self._folder)
        for stack in stacks:
            tid = stack.thread.tid
            own = [(short(name), line) for name, line in oracle.python_frames(stack)]
            for who, said in told.items():
                if who == "faulthandler" and tid not in said:
                    continue
                # of CPython before 3.9 py-spy tells the thread's pointer
                theirs = said.get(tid, said.get(pointers.get(tid, 0), []))
                rules = {"hides": facts.hides, "skips": who == "py-spy"}
                verdict = explain(own, chains.get(tid, []), theirs, **rules)
                self.verdicts[who].add(verdict)
                if verdict.differing and (self._verbose or verdict.classes[UNEXPLAINED]):
                    self._show(who, stack, own, theirs, chains.get(tid, []))

    def _show(self, who: str, stack: ThreadStack, own: Said, said: Said, chain: list[Fact]) -> None:
        print(f"thread {stack.thread.tid} {stack.trace.fault}, newest first")
        for title, frames in (("ours", own), (who, said), ("in memory", chain)):
            print(f"    {title}: " + "; ".join(map(str, frames)))

    def report(self) -> bool:
        """Print the sums; True if all is explained."""
        for who, sums in self.verdicts.items():
            classes = ", ".join(
                f"{n} {what}" for what, n in sums.classes.items() if n and what != UNEXPLAINED
            )
            print(
                f"    {who}: {sums.equal} of {sums.count} Python frames, {sums.differing} of "
                f"{sums.stacks} stacks differ{': ' * bool(classes)}{classes}; "
                f"unexplained: {sums.classes[UNEXPLAINED]}"
            )
        return not any(sums.classes[UNEXPLAINED] for sums in self.verdicts.values())
