# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A second unwinder for the tests: walks a stopped process's Python frames by the same layouts.

It knows nothing of C frames: it follows the thread state's frames to their end.
"""

import os
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from otelagent.abi._generated import FrameKind, PythonKind
from otelagent.formats.elf import ElfFile
from otelagent.host.memory import ProcessMemory
from otelagent.interpreters.python import PythonFrames, PythonProcess, attach, detect
from otelagent.interpreters.python.frames import RawFrame, code_check
from otelagent.protocols import Memory


class FileSource:
    """An open file as `formats.elf.Source`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = path.stat().st_size

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        self._file.close()


def find_process(pid: int) -> PythonProcess:
    """Find the CPython among the files that a process maps."""
    memory = ProcessMemory(pid)
    starts: dict[str, tuple[int, int]] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and re.search(r"python3\.", fields[5]) and "x" in fields[1]:
            start = int(fields[0].split("-")[0], 16)
            starts.setdefault(fields[5], (start, int(fields[2], 16)))
    for path, (start, offset) in starts.items():
        source = FileSource(Path(path))
        elf = ElfFile(source)
        build = detect(elf)
        if build is not None:
            elf_addr = elf.address_of(offset)
            assert elf_addr is not None
            process = attach(build, start - elf_addr, memory)
            source.close()
            return process
        source.close()
    raise AssertionError(f"no CPython in {sorted(starts)}")


class Walker:
    def __init__(self, process: PythonProcess, memory: Memory) -> None:
        self.at = process.layout
        self.memory = memory

    def _word(self, addr: int) -> int:
        return struct.unpack("<Q", self.memory.read(addr, 8))[0]

    def walk(self, state: int) -> Iterator[RawFrame]:
        """Iterate over a thread state's frames, newest first, without incomplete ones."""
        at = self.at
        frame = self._word(state + at.thread_frame)
        if at.kind == PythonKind.PY_CFRAME:
            frame = self._word(frame + at.cframe_frame)
        while frame:
            code = self._word(frame + at.frame_code) & ~7
            if at.kind == PythonKind.PY_OBJECT:
                (lasti,) = struct.unpack("<i", self.memory.read(frame + at.frame_instr, 4))
                yield self._raw(code, lasti)
            elif at.entry_shown or self._byte(frame + at.frame_entry) < at.entry_value:
                lasti = self._word(frame + at.frame_instr) - code - at.code_instructions
                if self._is_complete(frame, code, lasti):
                    yield self._raw(code, lasti)
            frame = self._word(frame + at.frame_previous)

    def _byte(self, addr: int) -> int:
        return self.memory.read(addr, 1)[0]

    def _is_complete(self, frame: int, code: int, lasti: int) -> bool:
        if self._byte(frame + self.at.frame_owner) == self.at.owner_generator:
            return True
        data = self.memory.read(code + self.at.code_first_traceable, 4)
        return lasti >= 2 * struct.unpack("<i", data)[0]

    def _raw(self, code: int, lasti: int) -> RawFrame:
        block = self.memory.read(code + self.at.code_block, 32)
        return RawFrame(code, code_check(self.at, block), lasti)


def read_stacks(pid: int) -> dict[int, list[list[tuple[str, str, int]]]]:
    """Walk all threads of a process: key → a list of (name, file, line) per thread state."""
    process = find_process(pid)
    memory = ProcessMemory(pid)
    walker = Walker(process, memory)
    namer = PythonFrames(process.layout, memory)
    stacks = {}
    for thread in process.read_threads(memory):
        stacks[thread.key] = []
        for state in thread.states:
            frames = [namer.name(*raw.encode()) for raw in walker.walk(state)]
            stacks[thread.key].append([describe(frame) for frame in frames])
    return stacks


def wait_for_stack(pid: int, told: list[tuple[str, str, int]]) -> bool:
    """Read stacks until one is what the program told: it told it on its way to where it waits."""
    deadline = time.monotonic() + 5
    while True:
        stacks = read_stacks(pid)
        if told in [stack[1:] for states in stacks.values() for stack in states]:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def describe(frame) -> tuple[str, str, int]:
    if not frame.lines:
        return ("?", frame.reason, 0)
    line = frame.lines[0]
    return (line.function.name, line.function.file, line.line)


__all__ = ["FrameKind", "Walker", "find_process", "read_stacks", "wait_for_stack"]
