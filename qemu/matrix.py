# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Boot the kernels of kernels.toml and run the tests in them that are marked `guest`.

    python qemu/matrix.py [--all] [NAME...]

The table at the end has one line a kernel; the status is 1 if any of them failed. Guests
run side by side where cores and memory allow (`OTELAGENT_QEMU_JOBS` says otherwise).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import arm64
import fetch
import special
import vm

KERNELS = Path(__file__).with_name("kernels.toml")
LOGS = vm.ROOT / "build" / "qemu"
MEMORY_MIB = 1024
TIMEOUT_S = float(os.environ.get("OTELAGENT_QEMU_TIMEOUT", "600"))
# Emulation of the other kind of machine, and twice its time where return addresses are signed.
ARM64_TIMES = 3
# Seconds for all, which CI gives: a guest that would begin with less left than the longest one
# took is not run, and the table says so. Without it all are run.
BUDGET_S = float(os.environ.get("OTELAGENT_QEMU_BUDGET", "inf"))
GUEST_S = 90
CLOSING_LINE = re.compile(r"\d+ (?:passed|failed|error|skipped).* in [\d.]+s")
PANIC = "the guest ended early"
CPU_LINE = re.compile(r"vm: (\d+) s of CPU")
SUITE = vm.ROOT / "integration"
# The root is read-only there, /tmp is not.
_PYTEST = (".ci/pytest", "--color=no", "-o", "cache_dir=/tmp/pytest-cache", "-m")
# Rows and symbols of files are found out by the first guests.
CACHE = LOGS / "cache"
# Programs of the tests, made on the host: compilers take seconds there.
PROGRAMS = ("recurse", "recurse-static", "refused.o", "waits")
# In guests of arm64, where the checkout is in another place.
ARM64_PATH = f"{vm.TREE}/build/aarch64:/{arm64.SITE}"
ARM64_CHECKS = ("python3", "integration/arm64_guest.py", "build/aarch64/programs")
VERIFIER = (".venv/bin/python", "tools/verifier.py")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A kernel of the matrix: features that it must have, and such that it cannot have.

    Attributes:
        series: What is fetched, or the special kernel's name.
        cpus: How many the guest has.
        signs: Its processor has pointer authentication.
    """

    name: str
    series: str
    cpus: int
    always: bool
    is_special: bool
    is_arm64: bool
    signs: bool
    features: tuple[str, ...]
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table."""

    name: str
    release: str
    status: int
    seconds: float
    last_line: str
    cpu_seconds: int = 0


def parse_kernels(text: str) -> list[Wanted]:
    """Read kernels.toml."""
    table = tomllib.loads(text)
    every = table["every"]["features"]
    return [
        Wanted(
            row["name"],
            row.get("series", row["name"]),
            row.get("cpus", 2),
            row.get("always", False),
            row.get("fragment", False),
            row.get("arm64", False),
            row.get("signing", False),
            (*every, *row["features"]),
            tuple(row.get("lacks", ())),
        )
        for row in table["kernel"]
    ]


def guest_tests(*, every: bool) -> list[str]:
    """List the files that have tests for guests: to collect all of them takes 16 s there."""
    marks = re.compile(r"mark\.(?:guest|whole)" if every else r"mark\.guest")
    files = sorted(SUITE.glob("test_*.py"))
    return [str(path.relative_to(vm.ROOT)) for path in files if marks.search(path.read_text())]


def prepare(files: list[str]) -> None:
    """Compile what guests import and sample: their root is read-only, and they are slow."""
    python = [sys.executable, "-m"]
    environment = {key: value for key, value in os.environ.items() if "BYTECODE" not in key}
    commands = [["compileall", "-q", "src", "tools", "bench"]]
    if files:
        # pytest rewrites assertions, and keeps that in files of its own.
        commands.append(["pytest", "-q", "--collect-only", *files])
        commands.append(["integration.programs", *PROGRAMS])
    for command in commands:
        run = subprocess.run(
            [*python, *command], cwd=vm.ROOT, env=environment, capture_output=True, check=False
        )
        if run.returncode:
            sys.exit(f"qemu/matrix.py: {command[0]} failed:\n{(run.stdout + run.stderr).decode()}")


def guest_command(kernel: fetch.Kernel, wanted: Wanted, command: tuple[str, ...]) -> list[str]:
    """Build the command that boots one kernel and runs a command in it."""
    run = [sys.executable, str(Path(__file__).with_name("run.py")), "--kernel", str(kernel.image)]
    if kernel.modules:
        run += ["--modules", str(kernel.modules)]
    run += [
        "--cpus",
        str(wanted.cpus),
        "--cache",
        str(CACHE),
        "--memory",
        str(MEMORY_MIB),
        "--timeout",
        str(TIMEOUT_S * (ARM64_TIMES if wanted.is_arm64 else 1)),
    ]
    # hypothesis would be loaded, which takes a second.
    run += ["--env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"]
    run += ["--env", f"OTELAGENT_FEATURES={','.join(wanted.features)}"]
    run += ["--env", f"OTELAGENT_LACKS={','.join(wanted.lacks)}"]
    if wanted.is_arm64:
        run += ["--arm64", *["--signing"] * wanted.signs]
        run += ["--env", f"PYTHONPATH={ARM64_PATH}", "--env", "PYTHONPYCACHEPREFIX=/var/cache/pyc"]
        command = ARM64_CHECKS
    return [*run, "--", *command]


_ARM64 = threading.Lock()


@functools.cache
def make_arm64() -> None:
    """Build for arm64, once: guests that run already read what is built.

    Raises:
        NoKernel: It cannot be.
    """
    arm64.build(arm64.find())


def find_kernel(wanted: Wanted) -> fetch.Kernel:
    """Fetch a kernel, and what else its guest needs.

    Raises:
        NoKernel: It cannot be had, or not be booted.
    """
    if wanted.is_special:
        return special.find(wanted.series)
    if not wanted.is_arm64:
        return fetch.fetch(wanted.series)
    if shutil.which(vm.ARM64.qemu) is None:
        raise fetch.NoKernel(f"{vm.ARM64.qemu} is not installed (package qemu-system-arm)")
    with _ARM64:
        make_arm64()
    return fetch.fetch(wanted.series, "arm64")


class Matrix:
    """Boots kernels, several at a time, and ends what it started."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._began = time.monotonic()
        self._longest_s: float = GUEST_S
        self._running: set[subprocess.Popen[str]] = set()

    def boot(self, wanted: Wanted) -> Outcome:
        """Fetch a kernel, run the tests in it, and keep the line that sums them up."""
        start = time.monotonic()
        if start - self._began > BUDGET_S - self._longest_s:
            print(f"== kernel {wanted.name} NOT RUN: no time is left", flush=True)
            return Outcome(wanted.name, "-", 0, 0, f"NOT RUN: {BUDGET_S:.0f} s are not enough")
        try:
            kernel = find_kernel(wanted)
        except fetch.NoKernel as error:
            print(f"== kernel {wanted.name} SKIPPED: {error}", flush=True)
            return Outcome(wanted.name, "-", 0, 0, f"SKIPPED: {error}".partition("\n")[0])
        status, lines = self._run(kernel, wanted)
        if any(PANIC in line for line in lines[-3:]):
            # Emulated processors that patch code under one another now and then panic.
            print(f"== kernel {wanted.name} ended early and is booted once more", flush=True)
            status, lines = self._run(kernel, wanted)
        said = [line for line in lines if not CPU_LINE.match(line)]
        closing = [line for line in said if CLOSING_LINE.search(line)] or said or [""]
        spent = time.monotonic() - start
        self._longest_s = max(self._longest_s, spent)
        cpu = sum(int(found[1]) for line in lines if (found := CPU_LINE.match(line)))
        line = closing[-1].strip("= \n")
        return Outcome(wanted.name, kernel.release, status, spent, line, cpu)

    def _run(self, kernel: fetch.Kernel, wanted: Wanted) -> tuple[int, list[str]]:
        log = LOGS / f"{wanted.name}.log"
        print(f"== kernel {wanted.name} ({kernel.release}), log {log}", flush=True)
        pipe = subprocess.PIPE
        command = guest_command(kernel, wanted, self._command)
        with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True) as guest:
            self._running.add(guest)
            assert guest.stdout is not None
            lines = list(guest.stdout)
        self._running.discard(guest)
        log.write_text("".join(lines))
        if guest.returncode or self._command is VERIFIER:
            print("".join(f"{wanted.name}: {line}" for line in lines), flush=True)
        return guest.returncode, [line for line in lines if line.strip()]

    def end(self) -> None:
        """End all guests that still run."""
        for guest in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                guest.terminate()


def jobs() -> int:
    """Count the guests that may run side by side: two CPUs each, but one of ours suffices."""
    if text := os.environ.get("OTELAGENT_QEMU_JOBS", ""):
        return int(text)
    free_mib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(1, min(os.cpu_count() or 1, free_mib // (MEMORY_MIB + 1024)))


def choose(kernels: list[Wanted], names: list[str], *, every: bool) -> list[Wanted]:
    """Pick the kernels to boot.

    Raises:
        SystemExit: There is no such kernel in the table.
    """
    known = {kernel.name for kernel in kernels}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"qemu/matrix.py: {KERNELS.name} does not have {', '.join(unknown)}")
    if names:
        return [kernel for kernel in kernels if kernel.name in names]
    return [kernel for kernel in kernels if every or kernel.always]


def main() -> int:
    """Boot them all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--verifier", action="store_true", help="tools/verifier.py, not tests")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    chosen = choose(parse_kernels(KERNELS.read_text()), arguments.names, every=arguments.all)
    files = guest_tests(every=arguments.all)
    prepare(files)
    marks = "guest or whole" if arguments.all else "guest"
    tests = ("env", f"OTELAGENT_WHOLE={'1' * arguments.all}", *_PYTEST, marks, *files)
    matrix = Matrix(VERIFIER if arguments.verifier else tests)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ThreadPoolExecutor(jobs()) as pool:
        try:
            outcomes = list(pool.map(matrix.boot, chosen))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            matrix.end()
            raise
    print()
    for row in outcomes:
        verdict = f"FAILED {row.status}" if row.status else "-" if row.release == "-" else "ok"
        times = f"{row.seconds:5.0f} s ({row.cpu_seconds:3} s of CPU)"
        print(f"{row.name:17} {row.release:28} {verdict:10} {times}  {row.last_line}")
    nothing = all(row.release == "-" for row in outcomes)
    return int(nothing or any(row.status for row in outcomes))


if __name__ == "__main__":
    sys.exit(main())
