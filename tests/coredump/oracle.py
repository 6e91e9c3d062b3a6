# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Asks others for the stacks of a process: gdb, py-spy, the program itself; and compares."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelagent.coredump.replay import replay
from otelagent.errors import BadElf, TargetError
from otelagent.formats.elf import ElfFile
from otelagent.host.snapshot import SnapshotImage
from otelagent.model import FrameType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otelagent.dump.stacks import ThreadStack
    from otelagent.host.image import ProcessImage
    from otelagent.host.snapshot import Snapshot

GDB_SCRIPT = Path(__file__).parent / "gdb_stacks.py"
GDB = ("gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "set confirm off")
WHOLE = ("-ex", "set backtrace past-main on", "-ex", "set backtrace past-entry on")


def gdb_version(name: str = "gdb") -> str:
    return subprocess.check_output([name, "--version"], text=True).splitlines()[0]


def run_gdb(
    *arguments: str,
    program: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    name: str = "gdb",
) -> dict[int, list]:
    """Run gdb with arguments, then the script that writes stacks (`env` is for the script)."""
    with tempfile.NamedTemporaryFile() as out:
        env = os.environ | (env or {}) | {"OA_GDB_OUT": out.name}
        command = [name, *GDB[1:], *WHOLE, *arguments, "-ex", f"source {GDB_SCRIPT}", *program]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        text = Path(out.name).read_text()
        if not text:
            raise RuntimeError(f"gdb failed: {done.stderr[-2000:]}")
        return {int(tid): frames for tid, frames in json.loads(text).items()}


def made_code(pid: int) -> str:
    """List where a process has code without a file, as the script wants it."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return " ".join(line[0] for line in lines if "x" in line[1] and len(line) == 5)


def _bias(image: ProcessImage, path: str) -> list[tuple[int, int, int]]:
    """List where code of a file is mapped: (start, end, address minus ELF address)."""
    found = []
    for mapped in image.read_maps():
        if mapped.path != path or not mapped.inode:
            continue
        try:
            loads = ElfFile(image.open_mapped(mapped)).executable_loads()
        except BadElf:
            continue
        except TargetError:  # it is not there: addresses are offsets
            found.append((mapped.start, mapped.end, mapped.start - mapped.offset))
            continue
        for s in loads:
            if s.offset & -4096 <= mapped.offset < s.offset + s.filesz:
                bias = mapped.start - (s.vaddr - s.offset + mapped.offset)
                found.append((mapped.start, mapped.end, bias))
    return found


def our_pcs(image: SnapshotImage, stack: ThreadStack, vdso: int) -> list[tuple[int, str]]:
    """Give the (address, function) of each native frame; of a caller inside of the call."""
    found = []
    for frame in stack.trace.frames:
        if frame.type in (FrameType.KERNEL, FrameType.PYTHON):
            continue
        name = frame.lines[-1].function.name if frame.lines else "?"
        path = frame.executable.path if frame.executable else ""
        bias = vdso if path == "[vdso]" else 0
        for _, _, value in _bias(image, path)[:1]:
            bias = value
        found.append((frame.address + bias, name))
    return found


def compare_pcs(snapshot: Snapshot, gdb: dict[int, list]) -> tuple[int, int, list[str]]:
    """Compare addresses: (frames that agree, frames in all, what does not agree)."""
    image = SnapshotImage(snapshot)
    stacks = replay(image, snapshot.notes)
    vdso = next((m.start for m in image.read_maps() if m.path == "[vdso]"), 0)
    agreed, count, beyond, differences = 0, 0, 0, []
    for stack in stacks:
        ours = our_pcs(image, stack, vdso)
        theirs = gdb.get(stack.thread.tid, [])
        same = [one[0] in (other[0], other[0] - 1) for one, other in zip(ours, theirs)]  # noqa: B905
        if all(same) and len(theirs) > len(ours):
            beyond += len(theirs) - len(ours)
            theirs = theirs[: len(ours)]
        count += max(len(ours), len(theirs))
        agreed += sum(same)
        if all(same) and len(ours) == len(theirs):
            continue
        at = (*same, False).index(False)
        told = [
            f"{each[at][0]:#x} {each[at][1]}" if at < len(each) else "none"
            for each in (ours, theirs)
        ]
        differences.append(f"thread {stack.thread.tid} frame {at}: {told[0]}, gdb {told[1]}")
    if beyond:
        differences.append(f"gdb goes on for {beyond} frames beyond the first of a thread")
    return agreed, count, differences[-4:]


def functions(threads: list[dict[str, Any]], own: set[str] | None = None) -> list[list[str]]:
    """List the functions of stacks, as `expected.json` has them: the program's own, or some."""
    found = []
    for thread in threads:
        parts = [text.split() for text in thread["frames"] if text.startswith("native: ")]
        found.append(
            [
                part[1]
                for part in parts
                if (part[1] in own if own is not None else part[-1].startswith("native+"))
            ]
        )
    return found


def python_frames(stack: ThreadStack) -> list[tuple[str, int]]:
    return [
        (frame.lines[0].function.name, frame.lines[0].line) if frame.lines else ("?", 0)
        for frame in stack.trace.frames
        if frame.type is FrameType.PYTHON
    ]


def compare_python(snapshot: Snapshot, own: dict[int, list]) -> tuple[int, int, list[str]]:
    """Compare with what the program said of itself: thread id → [[function, line]]."""
    stacks = replay(SnapshotImage(snapshot), snapshot.notes)
    agreed, count, differences = 0, 0, []
    for stack in stacks:
        if stack.thread.tid not in own:
            continue
        ours = python_frames(stack)
        theirs = [tuple(each) for each in own.get(stack.thread.tid, [])][
            : len(ours) if stack.trace.fault else None
        ]
        count += max(len(ours), len(theirs))
        agreed += sum(a == b for a, b in zip(ours, theirs, strict=False))
        if ours != theirs:
            differences.append(f"thread {stack.thread.tid}: {ours[:8]}, itself {theirs[:8]}")
    return agreed, count, differences[:3]


SWITCHES = {"runtime.asmcgocall", "crosscall2", "runtime.systemstack_switch"}
"""Between the stacks of Go and C: Go's traceback leaves them out, or has one that nobody called."""


def parse_traceback(text: str) -> dict[str, list[str]]:
    """Read what Go writes with GOTRACEBACK=crash: thread of the runtime → its functions."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    thread = "nil"
    for line in text.splitlines():
        if at := re.match(r"PC=\w+ m=(\d+)", line):
            thread = at[1]
        elif line.startswith("goroutine "):
            own = re.search(r"\bm=(\w+)", line)  # before 1.22: of the thread that writes
            thread, names = own[1] if own else thread, []
            if thread != "nil":
                found[thread] = names
            thread = "nil"
        elif (name := re.match(r"(\S+)\(.*\)$", line)) and name[1] not in SWITCHES:
            names.append(name[1])
        elif line.startswith("created by"):
            names = []
    return {thread: names for thread, names in found.items() if names}


def compare_go(snapshot: Snapshot, text: str) -> tuple[int, int, list[str]]:
    """Compare the Go functions with Go's own traceback, which says nothing of C."""
    theirs = list(parse_traceback(text).values())
    agreed, count, differences = 0, 0, []
    for stack in replay(SnapshotImage(snapshot), snapshot.notes):
        frames = [frame for frame in stack.trace.frames if frame.type is FrameType.GO]
        names = [line.function.name for frame in frames for line in frame.lines]
        ours = [name for name in names if name not in SWITCHES]
        pairs = [zip(reversed(ours), reversed(each), strict=False) for each in theirs]
        same = [sum(a == b for a, b in pair) for pair in pairs]
        if not ours or not same:
            continue
        best = theirs[same.index(max(same))]
        agreed += max(same)
        count += max(len(ours), len(best))
        if ours != best:
            differences.append(f"thread {stack.thread.tid}: {ours[:5]}, Go {best[:5]}")
    return agreed, count, differences[:3]


def ask_py_spy(pid: int, snapshot: Snapshot) -> str:
    """Tell how many Python frames py-spy agrees with."""
    done = subprocess.run(
        [Path(sys.executable).with_name("py-spy"), "dump", "-p", str(pid), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"py-spy: {done.stderr.strip().splitlines()[-1][:100]}"
    threads = json.loads(done.stdout)
    own = {
        each["os_thread_id"]: [
            (re.sub(r".*\.", "", f["name"]), f["line"]) for f in each["frames"] if f["line"]
        ]
        for each in threads
    }
    stacks = replay(SnapshotImage(snapshot), snapshot.notes)
    agreed = count = 0
    for stack in stacks:
        ours = [(re.sub(r".*\.", "", name), line) for name, line in python_frames(stack)]
        theirs = own.get(stack.thread.tid, [])
        count += max(len(ours), len(theirs))
        agreed += sum(a == b for a, b in zip(ours, theirs, strict=False))
    return f"py-spy: {agreed} of {count} frames"
