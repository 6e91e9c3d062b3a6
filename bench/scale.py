# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hold an agent against what no usual machine does, and print what it takes.

    bench/scale.py [--seconds 60] [--here] [MODE…]

MODE: `execs` (1,000 a second), `mappings` (a process with 500,000, which maps 100 more a
second), `crowd` (2,000 processes, 10,000 threads). It boots a guest with 2 GB of memory where
the agent samples everything; `--here` it samples its own workload alone, as far as
`vm.max_map_count` lets it.

The agent's store is in memory that is not its own, its CPU time is what the kernel says, from when
it samples on. Status 1: the agent has ended, or takes more than `MOST_MB`. See docs/agent.md.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import soak
import workload

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = 9912
FREQUENCY_HZ = 20
MOST_MB = 200.0
EVERY_S = 2.0
MAX_MAPS = Path("/proc/sys/vm/max_map_count")
WORDS = {"execs": ("1000",), "mappings": ("500000", "100"), "crowd": ("2000", "5")}
TELLING = ("otelagent_lost", "otelagent_unwinding_errors", "otelagent_processes")
TELLING += ("otelagent_bpf_events_total", "otelagent_sideband", "otelagent_stacks")
TELLING += ("otelagent_map_entries", "otelagent_samples", "otelagent_reports")


class Used(NamedTuple):
    """What an agent took until now: seconds of CPU, and MB of its own."""

    cpu_s: float
    anonymous_mb: float


def build() -> str:
    source, target = workload.HERE / "workloads" / "scale.c", workload.BUILD / "scale"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        workload.BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-static", "-pthread", source, "-o", target], check=True)
    return str(target)


@contextlib.contextmanager
def running(command: list[str], talk: Path) -> Iterator[int]:
    """Run the workload until all that it makes is there; ends it at the end."""
    with talk.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, start_new_session=True)
    try:
        while "ready" not in talk.read_text():
            if child.poll() is not None:
                sys.exit(f"{' '.join(command)}: status {child.returncode}")
            time.sleep(0.1)
        yield child.pid
    finally:
        child.kill()
        child.wait()


def use(pid: int) -> Used:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    status = Path(f"/proc/{pid}/status").read_text()
    anonymous_kib = int(status.split("RssAnon:")[1].split()[0])
    return Used(sum(map(int, ticks)) / 100, anonymous_kib * 1024 / 1e6)


def hold(mode: str, seconds: float, folder: Path, *, everything: bool) -> int:
    """Run one mode beside an agent, and print what that took."""
    words = list(WORDS[mode])
    if mode == "mappings":
        words[0] = str(min(int(words[0]), int(MAX_MAPS.read_text()) - 200))
    with contextlib.ExitStack() as stack:
        command = [build(), mode, *words]
        target = stack.enter_context(running(command, folder / "talk"))
        ask = [str(workload.OTELAGENT), "agent", "--store", str(folder / mode)]
        ask += [f"--samples-per-second={FREQUENCY_HZ}", f"--metrics-listen={PORT}"]
        began = time.monotonic()
        said = stack.enter_context((folder / "said").open("w+"))
        agent = subprocess.Popen([*ask, *([] if everything else ["-p", str(target)])], stderr=said)
        stack.callback(agent.kill)
        metrics = wait_until_ready(agent)
        start, first = time.monotonic() - began, use(agent.pid)
        print(f"\n{' '.join(command[1:])}: ready in {start:.1f} s with {first.cpu_s:.2f} s of CPU")
        most, until = first.anonymous_mb, time.monotonic() + seconds
        while time.monotonic() < until and agent.poll() is None:
            time.sleep(EVERY_S)
            most = max(most, use(agent.pid).anonymous_mb)
        last = use(agent.pid)
        with contextlib.suppress(OSError):
            metrics = soak.read_metrics(PORT)
        agent.send_signal(signal.SIGTERM)
        status = agent.wait(120)
        print((folder / "talk").read_text().splitlines()[-1], (folder / "said").read_text())
    cpu_s = last.cpu_s - first.cpu_s
    print(f"{cpu_s:.2f} s of CPU in {seconds:.0f} s: {cpu_s / seconds:.2%} of a CPU")
    print(f"{most:.1f} MB of its own at most, {last.anonymous_mb:.1f} at last")
    for key, value in metrics.items():
        if key.startswith(TELLING) and value:
            print(f"  {key:60} {value:10g}")
    return int(status != 0 or most > MOST_MB)


def wait_until_ready(agent: subprocess.Popen[bytes]) -> dict[str, float]:
    """Wait until it samples and has reported once."""
    while agent.poll() is None:
        with contextlib.suppress(OSError):
            metrics = soak.read_metrics(PORT)
            if metrics.get("otelagent_samples_total"):
                return metrics
        time.sleep(0.2)
    sys.exit("the agent has ended")


def boot(words: list[str], seconds: float) -> int:
    build()
    sys.path.append(str(soak.ROOT / "qemu"))
    import matrix

    matrix.prepare([])
    options = ["--kernel", "newest", "--cpus", "2", "--memory", "2048"]
    options += ["--timeout", str(3 * seconds + 900), "--cache", str(matrix.CACHE)]
    run = [sys.executable, str(soak.ROOT / "qemu" / "run.py"), *options, "--"]
    return subprocess.run([*run, sys.executable, __file__, *words], check=False).returncode


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--here", action="store_true", help="in no guest, its own workload")
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(WORDS))
    options = parser.parse_args()
    modes = options.modes or list(WORDS)
    if unknown := set(modes) - set(WORDS):
        parser.error(f"no such mode: {', '.join(unknown)}")
    is_guest = "otelagent.guest" in Path("/proc/cmdline").read_text()
    if not is_guest and not options.here:
        return boot([f"--seconds={options.seconds}", *modes], options.seconds)
    if is_guest:
        subprocess.run(["/bin/busybox", "ifconfig", "lo", "127.0.0.1", "up"], check=True)
        MAX_MAPS.write_text("1000000")
    with tempfile.TemporaryDirectory() as folder:
        results = [hold(mode, options.seconds, Path(folder), everything=is_guest) for mode in modes]
    return max(results)


if __name__ == "__main__":
    sys.exit(main())
