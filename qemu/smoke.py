# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Boot each kernel that must work and run the tests in it that are marked `guest`.

The table at the end has one line a kernel; the status is 1 if any of them failed.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass

import fetch
import vm

SERIES = ("6.1", "newest")
TIMEOUT_S = 170
PYTHON = ".venv/bin/python"
CLOSING_LINE = re.compile(r"\d+ (?:passed|failed|error|skipped).* in [\d.]+s")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table."""

    series: str
    release: str
    status: int
    seconds: float
    last_line: str


def command() -> list[str]:
    """Choose what to run: what depends on the kernel, or a line of Python if there is nothing."""
    if any((vm.ROOT / "integration").rglob("test_*.py")):
        # The root is read-only there, /tmp is not.
        cache = ["-o", "cache_dir=/tmp/pytest-cache"]
        return [".ci/pytest", "--color=no", *cache, "-m", "guest", "integration"]
    return [PYTHON, "-c", "import platform; print('python runs on', platform.release())"]


def boot(series: str) -> Outcome:
    """Fetch a kernel, run the command in it and keep the line that sums it up."""
    start = time.monotonic()
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    print(f"== kernel {series}", flush=True)
    try:
        kernel = fetch.fetch(series)
        status = vm.run(kernel, command(), vm.Options(memory_mib=2048, timeout_s=TIMEOUT_S), show)
        release = kernel.release
    except (fetch.NoKernel, OSError, RuntimeError) as error:
        status, release = vm.NO_STATUS, "-"
        show(str(error))
    closing = [line for line in lines if CLOSING_LINE.search(line)] or [x for x in lines if x]
    last_line = closing[-1].strip("= ") if closing else ""
    return Outcome(series, release, status, time.monotonic() - start, last_line)


def main() -> int:
    """Boot one after the other: two at once only share the same two CPUs."""
    outcomes = [boot(series) for series in sys.argv[1:] or SERIES]
    print()
    for row in outcomes:
        verdict = "ok" if row.status == 0 else f"FAILED {row.status}"
        print(f"{row.series:8} {row.release:28} {verdict:10} {row.seconds:5.0f} s  {row.last_line}")
    return int(any(row.status for row in outcomes))


if __name__ == "__main__":
    sys.exit(main())
