# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compare `dump` with others, on processes or cores that no test knows.

    compare_stacks.py [-n TIMES] [-w SECONDS] [--seed S] [--python] [--cores] (-p PID | -- COMMAND…)
    compare_stacks.py --core FILE PROGRAM

The processes (of a COMMAND: all that it starts) are halted by SIGSTOP a few times; while they
stand gdb and eu-stack are asked, too (`native_stacks.py`: by address, and the rule by which), and
py-spy (`python_stacks.py`: each difference's class). With `--cores` gcore writes them to files,
which are compared instead. With `--python` Python frames alone are compared; `{}` in a COMMAND is
then a folder where its threads tell their stacks by `faulthandler`.

The last line says how many frames are not explained; they are told one by one, as are all that
differ with `-v`. Needs gdb, elfutils, and to be root.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from native_stacks import (  # noqa: E402 (after the path is set)
    Described,
    NativeTally,
    ask_eu_stack,
    ask_gdb,
    ours,
)
from python_stacks import PythonTally  # noqa: E402

from otelagent.dump.stacks import take  # noqa: E402
from otelagent.errors import AgentError  # noqa: E402
from otelagent.host.core import CoreImage  # noqa: E402
from otelagent.host.live import LiveImage  # noqa: E402
from otelagent.model import FrameType  # noqa: E402
from otelagent.namers import Namers  # noqa: E402
from otelagent.unwind.cache import RowCache, default_directory  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.dump.stacks import ThreadStack
    from otelagent.host.image import ProcessImage

PER_INSTANT = 4
"""Processes of a command that are looked at each time."""


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


class Comparison:
    """Compares images with what others say of them, and sums up."""

    def __init__(self, python: PythonTally, *, native: bool, cores: bool) -> None:
        self.python = python
        self._native = native
        self._cores = cores
        self._tallies = {"gdb": NativeTally(), "eu-stack": NativeTally()}
        self._namers = Namers(symbols=True, debuginfod="")
        self._rows = RowCache(default_directory())
        self.instants = 0

    def process(self, pid: int) -> None:
        """Halt a process, and ask."""
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(0.05)
            if self._cores:
                self._write_core(pid)
            else:
                where = ("-p", str(pid))
                with contextlib.closing(LiveImage(pid)) as image:
                    stacks = take(image, self._namers, cache=self._rows).stacks
                    self._ask(image, stacks, where, where, where)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _write_core(self, pid: int) -> None:
        program = str(Path(f"/proc/{pid}/exe").readlink())
        with tempfile.TemporaryDirectory() as folder:
            command = ["gcore", "-o", f"{folder}/core", str(pid)]
            subprocess.run(command, capture_output=True, check=False)
            for path in Path(folder).iterdir():
                self.core(str(path), program)

    def core(self, path: str, program: str) -> None:
        """Ask of a core file."""
        with CoreImage.open(path) as image:
            stacks = take(image, cache=self._rows).stacks
            eu_stack = ("-e", program, f"--core={path}")
            self._ask(image, stacks, (program, path), eu_stack, ("--core", path))

    def _ask(
        self,
        image: ProcessImage,
        stacks: list[ThreadStack],
        gdb: tuple[str, ...],
        eu_stack: tuple[str, ...],
        py_spy: tuple[str, str],
    ) -> None:
        if self._native:
            mine = ours(image, stacks)
            described = Described(image)
            told, loop = ask_gdb(*gdb)
            for who, theirs in (("gdb", told), ("eu-stack", ask_eu_stack(loop, *eu_stack))):
                for stack in stacks:
                    if not stack.thread.problem:
                        tid = stack.thread.tid
                        both = mine[tid], stack.trace.fault, theirs.get(tid, [])
                        self._tallies[who].add(*both, described)
        if any(frame.type is FrameType.PYTHON for each in stacks for frame in each.trace.frames):
            self.python.ask(image, stacks, py_spy)
        self.instants += 1

    def report(self) -> bool:
        """Print the sums; True if all is explained."""
        fine = [tally.report(who) for who, tally in self._tallies.items() if self._native]
        return all([*fine, self.python.report()])


def run(comparison: Comparison, command: list[str], pid: int, waits: list[float]) -> None:
    """Halt a process, or those of a command, again and again."""
    child = None
    if not pid:
        null = subprocess.DEVNULL
        child = subprocess.Popen(command, stdout=null, stderr=null, process_group=0)
        comparison.python.wait(child.pid)
    for wait in waits:
        time.sleep(wait)
        found = sorted(set(descendants(child.pid)), key=_cpu, reverse=True) if child else [pid]
        for each in found[:PER_INSTANT]:
            try:
                comparison.process(each)
            except (AgentError, RuntimeError, OSError, ValueError) as err:
                print(f"  {each}: {err}", file=sys.stderr)
    if child is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def main() -> int:
    """Compare and print; 1 if anything is not explained."""
    parser = argparse.ArgumentParser(description=__doc__, usage=__doc__)
    parser.add_argument("-n", type=int, default=4)
    parser.add_argument("-p", "--pid", type=int, default=0)
    parser.add_argument("-w", "--wait", type=float, default=0.7)
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", action="store_true")
    parser.add_argument("--cores", action="store_true")
    parser.add_argument("--core")
    parser.add_argument("command", nargs="*")
    given = parser.parse_args()
    order = random.Random(given.seed)
    waits = [given.wait * order.uniform(0.5, 1.5) for _ in range(given.n)]
    with tempfile.TemporaryDirectory() as folder:
        command = [part.replace("{}", folder) for part in given.command]
        asked = Path(folder) if command != given.command else None
        python = PythonTally(asked, verbose=given.verbose)
        comparison = Comparison(python, native=not given.python, cores=given.cores)
        if given.core:
            comparison.core(given.core, command[0])
        else:
            run(comparison, command, given.pid, waits)
    name = given.core or " ".join(given.command)[:60] or str(given.pid)
    print(f"{name}: {comparison.instants} instants")
    return int(not comparison.report())


if __name__ == "__main__":
    sys.exit(main())
