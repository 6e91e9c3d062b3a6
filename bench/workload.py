# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Start and end what is measured, and what measures it.

Every figure of a child is what the kernel says of it and of its own children
when it is reaped (`wait4`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
OTELAGENT = Path(sys.executable).parent / "otelagent"
STEADY = (sys.executable, str(HERE / "workloads" / "steady.py"))
FREQUENCY_HZ = 99


@dataclass(frozen=True, slots=True)
class Usage:
    """What a child took: seconds, KiB, and what it said."""

    cpu_s: float
    wall_s: float
    peak_kib: int
    status: int
    talk: str


def build_depth() -> str:
    """Compile the native workload unless it is there: optimised, without frame pointers."""
    source, target = HERE / "workloads" / "depth.c", BUILD / "depth"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-fomit-frame-pointer", source, "-o", target], check=True)
    return str(target)


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[int]:
    """Run a command in the background, settled for half a second; ends it at the end."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield child.pid
    finally:
        child.kill()
        child.wait()


def use(
    command: Sequence[str], *, stop_after: float = 0, look: Callable[[int], None] | None = None
) -> Usage:
    """Run a command to its end and take its figures.

    Args:
        command: What to run.
        stop_after: SIGINT after so many seconds; 0 lets it end by itself.
        look: Called with its pid just before SIGINT.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    talk = BUILD / "talk"
    began = time.monotonic()
    with talk.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        if stop_after:
            time.sleep(stop_after)
            if look:
                look(child.pid)
            child.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    wall = time.monotonic() - began
    words = talk.read_text(errors="replace")
    return Usage(cpu, wall, usage.ru_maxrss, child.returncode, words)
