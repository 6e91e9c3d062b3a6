# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run `otelagent record` on a workload and read what it wrote."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OTELAGENT = Path(sys.prefix, "bin", "otelagent")
WORKLOADS = Path(__file__).parent / "workloads"
# Of the workload `waits`: where its threads wait, and
PLACES = {"nap": "nap", "condition": "wait_for_condition", "read": "read_pipe", "spin": "spin"}
PLACES |= {"main": "main"}
ENDS_UNSEEN = 0.03
"""what may be missing of a thread's waits: now and then it is not told that one is over."""
_COMPLETE = re.compile(r"([\d.]+) % of (\d+) user stacks are complete")


@dataclass(frozen=True, slots=True)
class Recording:
    """The collapsed stacks, root first, with their counts; and what was said."""

    stacks: dict[tuple[str, ...], int]
    said: str

    @property
    def samples(self) -> int:
        return sum(self.stacks.values())

    @property
    def complete_percent(self) -> float:
        return float(_COMPLETE.search(self.said)[1])

    @property
    def user_stacks(self) -> int:
        return int(_COMPLETE.search(self.said)[2])

    def of(self, process: str) -> dict[tuple[str, ...], int]:
        return {stack: count for stack, count in self.stacks.items() if stack[0] == process}

    def by_process(self) -> Counter[str]:
        """Samples by the name of the process."""
        found: Counter[str] = Counter()
        for stack, count in self.stacks.items():
            found[stack[0]] += count
        return found

    def share(self, *functions: str) -> float:
        """Share of the samples whose stack holds the functions in this order."""
        return sum(n for stack, n in self.stacks.items() if holds(stack, functions)) / self.samples


def holds(stack: tuple[str, ...], functions: tuple[str, ...]) -> bool:
    """Tell whether `functions` is a subsequence of the stack."""
    rest = iter(stack)
    return all(name in rest for name in functions)


def record(
    folder: Path, *arguments: str, before: Sequence[str] = (), timeout: float = 120
) -> Recording:
    """Record with the given targets and options, and succeed; `before` starts otelagent."""
    output = folder / "stacks.folded"
    command = [*before, str(OTELAGENT), "record", "--force", "-o", str(output), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return read_recording(output, done.stderr)


def read_recording(output: Path, said: str) -> Recording:
    """Read collapsed stacks."""
    stacks = {}
    for line in output.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[tuple(stack.split(";"))] = int(count)
    return Recording(stacks, said)


class Whole:
    """`record --all` in the background, for some seconds at most."""

    def __init__(self, folder: Path, seconds: float, *options: str) -> None:
        self.output = folder / "stacks.folded"
        command = [str(OTELAGENT), "record", "--all", "-v", "-F", "99", "-d", str(seconds)]
        command += options
        self.process = subprocess.Popen(
            [*command, "-o", str(self.output)], stderr=subprocess.PIPE, text=True
        )
        self.said = ""
        while "otelagent: sampling the whole system" not in self.said:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line

    def end(self) -> Recording:
        """Wait for the end, and read what was seen."""
        rest = self.process.communicate(timeout=240)[1]
        assert self.process.returncode == 0, self.said + rest
        return read_recording(self.output, self.said + rest)


def build_c(folder: Path, name: str, *flags: str) -> Path:
    """Compile `workloads/c/NAME.c`, by default without frame pointers."""
    target = folder / name
    flags = flags or ("-O2", "-fomit-frame-pointer")
    source = WORKLOADS / "c" / f"{name}.c"
    subprocess.run(["cc", *flags, "-o", str(target), str(source)], check=True)
    return target


def measured(said: str) -> dict[int, tuple[str, int, int]]:
    """What threads of `waits` said of themselves: tid → (name, ns they lived, ns they ran)."""
    rows = [line.split() for line in said.splitlines()]
    return {int(tid): (name, int(wall), int(cpu)) for name, tid, wall, cpu in rows}


def stolen_ns() -> int:
    """Tell how long the host has kept this machine's CPUs to itself (proc(5), "steal").

    Meanwhile a thread neither runs, by its own CPU clock, nor waits.
    """
    ticks = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
