# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What others say about a stack: gdb and py-spy; and what `otelagent record` says.

The normalisation that makes them comparable is in docs/accuracy.md.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.proc_maps import parse_executable
from otelagent.model import FrameType
from otelagent.profile.formats import registry

if TYPE_CHECKING:
    from otelagent.model import Frame
    from otelagent.profile.model import Profile

OTELAGENT = Path(sys.executable).parent / "otelagent"
ATTEMPTS = 6
GDB = """
set pagination off
set confirm off
set debuginfod enabled off
set auto-load no
set backtrace past-main on
set backtrace past-entry on
set backtrace limit 1100
python
import json
stacks = {}
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frames, frame = [], gdb.newest_frame()
    while frame is not None and frame.is_valid():
        inline = frame.type() == gdb.INLINE_FRAME
        signal = frame.type() == gdb.SIGTRAMP_FRAME
        if frame.type() != gdb.TAILCALL_FRAME:  # deduced, not on the stack
            frames.append([frame.pc(), frame.name() or "", inline, signal])
        try:
            frame = frame.older()
        except gdb.error:
            break
    stacks[thread.ptid[1]] = frames
print("STACKS" + json.dumps(stacks))
end
"""
COMPLETE = re.compile(r"([0-9.]+) % of ([0-9]+) user stacks are complete")


class Place(NamedTuple):
    """A physical frame: file name, ELF address, names innermost first.

    The newest one moves, so it has address 0 and only its outermost name.
    """

    file: str
    address: int
    names: tuple[str, ...]


LOOP = Place("", 0, ("Python",))


class Recorded(NamedTuple):
    """A profile, and the line that `record` ended with."""

    profile: Profile
    last_line: str

    @property
    def complete(self) -> tuple[float, int]:
        """Percentage of complete user stacks, and how many user stacks there are."""
        found = COMPLETE.search(self.last_line)
        assert found, self.last_line
        return float(found[1]), int(found[2])


def record(*arguments: str, hertz: int = 499) -> Recorded:
    """Run `otelagent record -f otlp` and read what it wrote."""
    with tempfile.TemporaryDirectory() as where:
        target = Path(where) / "out.otlp"
        command = [str(OTELAGENT), "record", "-F", str(hertz), "-o", str(target), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert target.exists(), done.stderr
        return Recorded(registry.read(target), done.stderr.strip().splitlines()[-1])


def record_enough(*arguments: str, samples: int, hertz: int = 499) -> Recorded:
    """Record until there are enough user stacks: a busy machine gives fewer a second."""
    for _ in range(ATTEMPTS):
        recorded = record(*arguments, hertz=hertz)
        if recorded.complete[1] >= samples:
            return recorded
    raise AssertionError(f"fewer than {samples} samples in {ATTEMPTS} runs: {recorded.last_line}")


class Ranges:
    """Executable mappings of a process: from its addresses to files' own."""

    def __init__(self, pid: int) -> None:
        self._ranges = list(parse_executable(Path(f"/proc/{pid}/maps").read_bytes()))
        self._files: dict[str, ElfFile] = {}

    def place(self, pc: int) -> tuple[str, int]:
        """File name and ELF address; for memory without a file its name and the address."""
        for mapped in self._ranges:
            if mapped.start <= pc < mapped.end:
                if not mapped.inode:
                    return mapped.path, pc
                elf = self._files.get(mapped.path)
                if elf is None:
                    elf = ElfFile(BytesSource(Path(mapped.path).read_bytes()))
                    self._files[mapped.path] = elf
                address = elf.address_of(pc - mapped.start + mapped.offset)
                assert address is not None
                return Path(mapped.path).name, address
        return "", pc


def gdb_stacks(pid: int) -> dict[int, list[Place]]:
    """Stop a process for a moment: thread id → stack, newest frame first.

    gdb gives inlined frames of their own; they are joined with the physical
    frame they lie in. The address of a caller is the one before its return address.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
        script.write(GDB)
        script.flush()
        command = ["gdb", "-nx", "-batch", "-p", str(pid), "-x", script.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = re.search("^STACKS(.*)$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    ranges = Ranges(pid)
    return {int(tid): _join(frames, ranges) for tid, frames in json.loads(found[1]).items()}


def _join(frames: list[list], ranges: Ranges) -> list[Place]:
    places: list[Place] = []
    names: list[str] = []
    is_call = False
    for pc, name, is_inline, is_signal in frames:
        if not pc:
            break  # gdb goes one further where no information says that this is the first frame
        names.append(name)
        if is_inline:
            continue
        # Nor was a signal's trampoline: nothing called the handler.
        file, address = ranges.place(pc - 1 if is_call and not is_signal else pc)
        places.append(Place(file, address, tuple(names)) if places else Place(file, 0, (name,)))
        names = []
        # What a signal interrupted was not calling.
        is_call = not is_signal
    return places


def place_of(frame: Frame, *, newest: bool) -> Place:
    """One frame of ours in the oracle's form."""
    file = Path(frame.executable.path).name if frame.executable else ""
    names = tuple(line.function.name for line in frame.lines)
    return Place(file, 0, names[-1:]) if newest else Place(file, frame.address, names)


def user_stacks(profile: Profile, pid: int) -> dict[int, Counter[tuple[Frame, ...]]]:
    """Thread id → user stacks with how often each was seen."""
    stacks: dict[int, Counter[tuple[Frame, ...]]] = {}
    for trace, process, thread, group in profile:
        if process.pid == pid:
            frames = tuple(frame for frame in trace.frames if frame.type != FrameType.KERNEL)
            stacks.setdefault(thread.tid, Counter())[frames] += group.count
    return stacks


def py_spy_stacks(pid: int) -> dict[int, list[tuple[str, str, int]]]:
    """Thread id → Python frames as (name, file, line), newest first."""
    py_spy = Path(sys.executable).parent / "py-spy"
    command = [str(py_spy), "dump", "--json", "--pid", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return {
        thread["os_thread_id"]: [
            (frame["name"], Path(frame["filename"]).name, frame["line"])
            for frame in thread["frames"]
        ]
        for thread in json.loads(done.stdout)
    }


def python_frames(stack: tuple[Frame, ...]) -> list[tuple[str, str, int]]:
    """Give the Python frames of a stack of ours as py-spy gives them."""
    lines = [line for frame in stack if frame.type == FrameType.PYTHON for line in frame.lines]
    return [(line.function.name, Path(line.function.file).name, line.line) for line in lines]


def without_loops(places: list[Place], loop: str = "_PyEval_EvalFrameDefault") -> list[Place]:
    """Put one mark for each uninterrupted series of runs of the eval loop."""
    return _marked([LOOP if place.names[-1:] == (loop,) else place for place in places])


def without_python(stack: tuple[Frame, ...]) -> list[Place]:
    """Put the same mark for each uninterrupted series of Python frames."""
    return _marked(
        [
            LOOP if frame.type == FrameType.PYTHON else place_of(frame, newest=not at)
            for at, frame in enumerate(stack)
        ]
    )


def _marked(places: list[Place]) -> list[Place]:
    return [
        place
        for at, place in enumerate(places)
        if place is not LOOP or not at or places[at - 1] is not LOOP
    ]
