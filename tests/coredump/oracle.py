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
from otelagent.errors import BadElf
from otelagent.formats.elf import ElfFile
from otelagent.host.snapshot import SnapshotImage
from otelagent.model import FrameType

if TYPE_CHECKING:
    from otelagent.dump.stacks import ThreadStack
    from otelagent.host.snapshot import Snapshot

GDB_SCRIPT = Path(__file__).parent / "gdb_stacks.py"
GDB = ("gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "set confirm off")
WHOLE = ("-ex", "set backtrace past-main on", "-ex", "set backtrace past-entry on")


def gdb_version(name: str = "gdb") -> str:
    return subprocess.check_output([name, "--version"], text=True).splitlines()[0]


def run_gdb(*arguments: str, program: tuple[str, ...] = (), name: str = "gdb") -> dict[int, list]:
    """Run gdb with arguments, then the script that writes stacks."""
    with tempfile.NamedTemporaryFile() as out:
        env = os.environ | {"OA_GDB_OUT": out.name}
        command = [name, *GDB[1:], *WHOLE, *arguments, "-ex", f"source {GDB_SCRIPT}", *program]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        text = Path(out.name).read_text()
        if not text:
            raise RuntimeError(f"gdb failed: {done.stderr[-2000:]}")
        return {int(tid): frames for tid, frames in json.loads(text).items()}


def _bias(image: SnapshotImage, path: str) -> list[tuple[int, int, int]]:
    """List where code of a file is mapped: (start, end, address minus ELF address)."""
    found = []
    for mapped in image.read_maps():
        if mapped.path != path or not mapped.inode:
            continue
        try:
            loads = ElfFile(image.open_mapped(mapped)).executable_loads()
        except BadElf:
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
