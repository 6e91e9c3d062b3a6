# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Fuzz the parsers: `run.py [--inputs N] [--seconds S] [DRIVER…]`.

Every `fuzz_<name>.c` beside this file is a driver (see `fuzz.h`) that runs under
ASan and UBSan; `parsers.py` has those in Python, the C that they call runs under
ASan and UBSan, too. What `seeds.py` makes is mutated.
Drivers take turns until each has run its share of N inputs. An input that
crashes, hangs for a second or needs more than 64 MiB is kept in `build/fuzz/`,
and the run fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import build as recipe
from tests.fuzz.parsers import PARSERS
from tests.fuzz.seeds import write_seeds

OUT = ROOT / "build" / "fuzz"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g", "-fPIC"]
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", *recipe.FFI_FLAGS, *SANITIZE]
LIMITS = "max_allocation_size_mb=64:hard_rss_limit_mb=160:quarantine_size_mb=16"
PYTHON_LIMITS = "detect_leaks=0:max_allocation_size_mb=256:quarantine_size_mb=8"
"""Python itself leaves memory to the kernel at its end."""
TURN_SECONDS = 5


class Driver(NamedTuple):
    """What takes SECONDS SEED SAVE [FILE…], and which inputs it gets."""

    label: str
    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = (("ASAN_OPTIONS", LIMITS),)


def compile_file(source: Path, arch: str) -> Path:
    """Compile one file with sanitizers, unless nothing that it may include changed."""
    target = OUT / f"{arch}-{source.relative_to(ROOT).as_posix().replace('/', '-')}.o"
    places = (recipe.NATIVE, recipe.EBPF, recipe.EBPF / "host", HERE)
    headers = [header for place in places for header in place.glob("*.h")]
    if not recipe.is_newer(target, source, *headers):
        includes = [f"-I{place}" for place in (recipe.NATIVE, recipe.EBPF, HERE)]
        defines = [f"-D__TARGET_ARCH_{arch}", "-DPIECE_BYTES=96"]
        recipe.run("cc", *FLAGS, *defines, *includes, "-c", source, "-o", target)
    return target


def build_driver(name: str, arch: str) -> Driver:
    """Link a driver with the whole C core, its unwinders compiled for `arch`."""
    sources = [HERE / "main.c", HERE / f"fuzz_{name}.c", *recipe.native_sources()]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: compile_file(source, arch), sources))
    target = OUT / f"{name}-{arch}"
    libraries = [f"-l{library}" for library in recipe.LIBRARIES]
    recipe.run("cc", *SANITIZE, *objects, *libraries, "-o", target)
    return Driver(target.name, name, (str(target),))


def build_extension(arch: str) -> Path:
    """Build `otelagent._native` with sanitizers; returns its file."""
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: compile_file(source, arch), recipe.native_sources()))
    source, target = OUT / "_native.c", OUT / "_native.abi3.so"
    if not recipe.is_newer(target, *objects):
        recipe.native_ffi().emit_c_code(str(source))
        includes = ["-I", recipe.NATIVE, "-I", recipe.EBPF, "-I", sysconfig.get_path("include")]
        libraries = [f"-l{library}" for library in recipe.LIBRARIES]
        recipe.run(
            *("cc", *SANITIZE, f"-D__TARGET_ARCH_{arch}", *includes, "-shared", source),
            *(*objects, *libraries, "-o", target),
        )
    return target


def parser_drivers(names: list[str], arch: str) -> list[Driver]:
    """Make the drivers in Python: they load the extension that has sanitizers."""
    if not names:
        return []
    environment = {
        "LD_PRELOAD": recipe.run("cc", "-print-file-name=libasan.so").strip(),
        "ASAN_OPTIONS": PYTHON_LIMITS,
        "PYTHONMALLOC": "malloc",  # so that ASan sees the end of every object
    }
    extension = str(build_extension(arch))
    program = (sys.executable, str(HERE / "sanitized.py"), extension, str(HERE / "parsers.py"))
    return [Driver(name, name, (*program, name), tuple(environment.items())) for name in names]


class Turn(NamedTuple):
    """How many inputs a driver had, and of those in Python what the worst took."""

    inputs: int
    worst_ms: float = 0.0
    grown_kib: int = 0

    def add(self, other: Turn) -> Turn:
        """Count another turn."""
        return Turn(
            self.inputs + other.inputs,
            max(self.worst_ms, other.worst_ms),
            max(self.grown_kib, other.grown_kib),
        )

    def __str__(self) -> str:
        """Tell the worst where it is known."""
        if not self.worst_ms:
            return str(self.inputs)
        return f"{self.inputs} (worst {self.worst_ms:.0f} ms, {self.grown_kib} KiB)"


def take_turn(driver: Driver, seconds: float, seed: int) -> Turn:
    """Run a driver for some seconds; returns what inputs it had, or ends the run."""
    seeds = write_seeds(driver.name, OUT / "seeds")
    saved = OUT / f"{driver.label}.input"
    saved.unlink(missing_ok=True)
    environment = (
        os.environ
        | dict(driver.environment)
        | {"UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1"}
    )
    command = [*driver.command, str(seconds), str(seed), saved, *seeds]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        sys.exit(f"{result.stderr[-6000:]}\n{driver.label}: failed; its input is {saved}")
    inputs, worst, grown = (*result.stdout.split(), "0", "0")[:3]
    return Turn(int(inputs), float(worst), int(grown))


def fuzz(drivers: list[Driver], inputs: int, seconds: float, turn_seconds: float) -> None:
    """Let the drivers take turns until they have run their share, or the time is over."""
    share = -(-inputs // len(drivers))
    done = dict.fromkeys(drivers, Turn(0))
    seed = time.time_ns() & 0xFFFF_FFFF
    end = time.monotonic() + seconds
    while time.monotonic() < end and (left := [d for d in drivers if done[d].inputs < share]):
        for driver in left:
            seed += 1
            # A short first turn: a run that is cut has tried them all.
            wanted = turn_seconds if done[driver].inputs else 1.0
            turn = min(wanted, max(1.0, end - time.monotonic()))
            done[driver] = done[driver].add(take_turn(driver, turn, seed))
            print(
                f"fuzz: {sum(each.inputs for each in done.values())} inputs, no crash: "
                + ", ".join(f"{driver.label} {turns}" for driver, turns in done.items()),
                flush=True,
            )


def main() -> None:
    """Build and run the drivers that were asked for, or all."""
    names = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))
    parser = argparse.ArgumentParser(description="Fuzz the parsers.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="all drivers together")
    parser.add_argument("--seconds", type=float, default=3600, help="at most")
    parser.add_argument("--turn", type=float, default=TURN_SECONDS, help="seconds of a turn")
    every = [*names, *PARSERS]
    parser.add_argument("drivers", nargs="*", metavar="DRIVER", help=", ".join(every))
    asked = parser.parse_args()
    if unknown := sorted(set(asked.drivers) - set(every)):
        parser.error(f"no such driver: {', '.join(unknown)}; there are {', '.join(every)}")
    OUT.mkdir(parents=True, exist_ok=True)
    own, other = recipe.BPF_ARCHES[os.uname().machine], "arm64"
    # The unwinders are C: those for arm64 run here as well.
    chosen = asked.drivers or every
    wanted = [(name, own) for name in chosen if name in names]
    wanted += [(name, other) for name, _ in wanted if name == "unwind" and own != other]
    drivers = [build_driver(*driver) for driver in wanted]
    drivers += parser_drivers([name for name in chosen if name in PARSERS], own)
    fuzz(drivers, asked.inputs, asked.seconds, asked.turn)


if __name__ == "__main__":
    main()
