# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is tested in guests of arm64 (qemu/matrix.py): whole, named stacks of every language.

    python3 arm64_guest.py PROGRAMS [CHECK…]

No test of integration/ runs there: they compile, and the guest has no compiler. Prints a line
a check and one in all; the status is 1 if one failed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = Path(sys.argv[1])
OTELAGENT = (sys.executable, "-m", "otelagent")
WORKLOADS = Path(__file__).parent / "workloads"
SAMPLES = re.compile(r"(\d+) samples")
COMPLETE = re.compile(r"([\d.]+) % of \d+ user stacks")
# The profiler and what it samples share one emulated CPU: let the former be quick.
NICE = ("nice", "-n", "19")
MIN_SAMPLES = 50
COMPLETE_PERCENT = 95


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def record(*command: str, warm: bool = False) -> tuple[dict[tuple[str, ...], int], str]:
    """Record a command: its stacks from the first frame on, and the last line that was said.

    A short run may fill the cache of rows before: emulation takes seconds for what takes
    milliseconds else, and the stacks that wait meanwhile do not fit into the ring.
    """
    if warm:
        _record(*command[:-1], "1")
    stacks, complete, said = _record(*command)
    assert int(SAMPLES.search(said)[1]) >= MIN_SAMPLES, said
    assert complete >= COMPLETE_PERCENT, said
    return stacks, said


def _record(*command: str) -> tuple[dict[tuple[str, ...], int], float, str]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "stacks.txt"
        how = ("record", "-F", "97", "-f", "collapsed", "-o", str(target), "--", *NICE)
        done = run(*OTELAGENT, *how, *command)
        said = done.stderr.strip().splitlines()[-1]
        found = COMPLETE.search(said)
        assert found, done.stderr
        stacks = {}
        for line in target.read_text().splitlines():
            frames, _, count = line.rpartition(" ")
            names = tuple(name for name in frames.split(";") if not name.endswith("_[k]"))
            stacks[names[1:]] = stacks.get(names[1:], 0) + int(count)
        return stacks, float(found[1]), said


def share(stacks: dict[tuple[str, ...], int], *names: str) -> float:
    """Tell how large a part of all samples has these functions, in this order."""

    def has(stack: tuple[str, ...]) -> bool:
        rest = iter(stack)
        return all(any(name in each for each in rest) for name in names)

    return sum(n for stack, n in stacks.items() if has(stack)) / sum(stacks.values())


def check_doctor() -> str:
    done = run(*OTELAGENT, "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    features = {each["name"]: each for each in json.loads(done.stdout)["features"]}
    wanted = os.environ.get("OTELAGENT_FEATURES", "").split(",")
    missing = [name for name in wanted if name and not features[name]["is_there"]]
    assert not missing, missing
    return f"{len(features)} features looked at"


def check_c() -> str:
    stacks, said = record(str(PROGRAMS / "recurse"), "1", "3", "12", "30")
    chains = {tuple(name for name in each if name in C_NAMES) for each in stacks}
    assert chains >= {("_start", "main", *["descend"] * n, "middle", "leaf") for n in (3, 12, 30)}
    assert share(stacks, "_start", "main") > 0.9, stacks
    return said


C_NAMES = {"_start", "main", "descend", "middle", "leaf"}


def check_cxx() -> str:
    stacks, said = record(str(PROGRAMS / "throws"), "4", warm=True)
    assert share(stacks, "Work()") > 0.9, stacks
    assert share(stacks, "Work()", "Rethrowing", "Throwing", "_Unwind_RaiseException") > 0, stacks
    return said


FIRST_GO = ("runtime.goexit", "runtime.mstart", "runtime.mcall", "runtime.morestack", "runtime.rt0")


def check_go() -> str:
    stacks, said = record(str(PROGRAMS / "gomixed"), "4", warm=True)
    assert sum(share(stacks, name) for name in FIRST_GO) > 0.9, stacks
    assert share(stacks, "runtime.goexit", "main.work") > 0.1, stacks
    return said


def check_cgo() -> str:
    stacks, said = record(str(PROGRAMS / "gocgo"), "4", warm=True)
    assert share(stacks, "runtime.goexit", "runtime.asmcgocall", "c_burn") > 0.05, stacks
    back = ("runtime.goexit", "runtime.asmcgocall", "crosscall2", "runtime.cgocallback")
    assert share(stacks, *back, "main.goBurn") > 0.01, stacks
    return said


def check_python() -> str:
    script = str(WORKLOADS / "python/mixed.py")
    stacks, said = record(sys.executable, script, "pure", "9")
    # Emulated, imports take half of the time.
    shares = {name: share(stacks, "_start", name) for name in ("<module>", "main", "pure", "fib")}
    assert shares["<module>"] > 0.5, shares
    assert shares["pure"] > 0.05, shares
    return said


def check_dump() -> str:
    """A live process: stopped by ptrace, its registers read."""
    program = subprocess.Popen([PROGRAMS / "native", "mixed"], stdout=subprocess.PIPE)
    try:
        assert program.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        done = run(*OTELAGENT, "dump", "-p", str(program.pid), "--json")
    finally:
        program.kill()
    assert done.returncode == 0, done.stderr
    for name in ("park", "descend", "in_alloca", "in_realigned", "main", "_start"):
        assert f'"{name}"' in done.stdout, done.stdout
    return "park … _start"


CHECKS = (check_doctor, check_c, check_cxx, check_go, check_cgo, check_python, check_dump)


def main() -> int:
    began, failed = time.monotonic(), 0
    chosen = [each for each in CHECKS if each.__name__ in sys.argv[2:]] or CHECKS
    for check in chosen:
        start = time.monotonic()
        try:
            said = check()
            verdict = "ok"
        except Exception as err:  # noqa: BLE001 (one check; the others go on)
            said, verdict, failed = repr(err)[:3000], "FAILED", failed + 1
        print(f"{check.__name__} {verdict} ({time.monotonic() - start:.0f} s): {said}", flush=True)
    spent = time.monotonic() - began
    print(f"{failed} failed, {len(chosen) - failed} passed in {spent:.1f}s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
