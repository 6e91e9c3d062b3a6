# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hold an agent against processes that come and go, and see whether it grows.

    bench/soak.py [--minutes 30] [--interval 2s] [--turn 0.5] [--here]

It boots a guest where the agent samples everything, or samples its own workload `--here`. In each
turn some 24 processes come and go, and one program that nobody has seen.
The agent sends to a receiver that takes all. Each `EVERY_S` seconds a line goes to build/soak/:
memory, descriptors, threads, and all of the agent's own metrics. Once all that is bounded is full
(`warm_s`), a straight line through the rest tells what grows.

Status 1: memory grows by more than `MOST_MB_PER_HOUR`, or descriptors by `MOST_DESCRIPTORS`.
See docs/agent.md.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import workload

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "soak"
GUEST_OUT = Path("/tmp/out")
EVERY_S = 10.0
WARM_REPORTS = 2 * (120 + 60)
"""Traces that were not sampled in 120 reports are forgotten; each 60 reports names and processes
that none of them has. So often twice: the heap has the room of its largest moment then."""
WARM_FILES = 3 * 256
"""Files that nobody maps any more are forgotten from the 257th on, 64 at a time."""
MOST_MB_PER_HOUR = 1.0
MOST_DESCRIPTORS = 8
FREQUENCY_HZ = 97
CHURN = ("sh", str(workload.HERE / "workloads" / "churn.sh"))


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes everything, and counts it."""

    protocol_version = "HTTP/1.1"
    requests = taken_bytes = 0

    def do_POST(self) -> None:
        """Take a request."""
        size = int(self.headers["content-length"])
        self.rfile.read(size)
        Receiver.requests += 1
        Receiver.taken_bytes += size
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def receiving() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def read_metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    rows = [line.rpartition(" ") for line in lines if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def look(pid: int, port: int) -> dict[str, float]:
    """Read everything that may grow."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = {key: status.split(f"{key}:")[1].split()[0] for key in ("RssAnon", "VmRSS", "VmData")}
    figures = {f"{key}_mb": int(value) * 1024 / 1e6 for key, value in kib.items()}
    figures["threads"] = int(status.split("Threads:")[1].split()[0])
    figures["fds"] = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    figures["requests"], figures["taken_bytes"] = Receiver.requests, Receiver.taken_bytes
    return figures | read_metrics(port)


def slope(rows: list[dict[str, float]], key: str) -> float:
    """What it grows by in an hour: the straight line of the least squares."""
    pairs = [(row["at_s"], row[key]) for row in rows if key in row]
    if len(pairs) < 3:
        return 0.0
    middle = [sum(each) / len(pairs) for each in zip(*pairs, strict=True)]
    spread = sum((at - middle[0]) ** 2 for at, _ in pairs)
    return 3600 * sum((at - middle[0]) * (value - middle[1]) for at, value in pairs) / spread


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def warm_s(interval_s: float, turn_s: float) -> float:
    """Tell when all is full that is bounded: by reports, or by files, of which a turn has one."""
    return max(WARM_REPORTS * interval_s, WARM_FILES * turn_s)


def judge(rows: list[dict[str, float]], since_s: float) -> int:
    """Print what grew once it was warm."""
    warm = [row for row in rows if row["at_s"] >= since_s] or rows
    print(f"{len(warm)} looks in {warm[-1]['at_s'] - warm[0]['at_s']:.0f} s, after {since_s:.0f} s")
    third = -(-len(warm) // 3)
    means = [
        sum(row["RssAnon_mb"] for row in part) / len(part)
        for at in range(0, len(warm), third)
        if (part := warm[at : at + third])
    ]
    print("RssAnon_mb, mean of each third:", *(f"{mean:.2f}" for mean in means))
    parts = ("otelagent_kept", "otelagent_map_entries", "otelagent_queue", "otelagent_export_q")
    keys = [key for key in warm[-1] if key.endswith("_mb") or key in ("fds", "threads")]
    keys += [key for key in warm[-1] if key.startswith(parts)]
    for key in keys:
        values = [row[key] for row in warm if key in row]
        low, high, grown = min(values), max(values), slope(warm, key)
        print(f"{key:45} {low:10g} to {high:10g}, {grown:+10.2f} an hour, {values[-1]:10g} at last")
    for key in warm[-1]:
        if key.startswith(("otelagent_lost", "otelagent_export_samples")) and warm[-1][key]:
            print(f"{key:70} {warm[-1][key]:10g}")
    descriptors = [row["fds"] for row in warm]
    half = len(descriptors) // 2
    # Up by one with each new file, down by 64 at a time: the highest tells whether they grow.
    grows = max(descriptors[half:]) - max(descriptors[: half or 1]) > MOST_DESCRIPTORS
    return int(grows or slope(warm, "RssAnon_mb") > MOST_MB_PER_HOUR)


def soak(minutes: float, interval: str, turn_s: float, out: Path, *, everything: bool) -> int:
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with (
        contextlib.ExitStack() as stack,
        receiving() as port,
        (out / "soak.jsonl").open("w") as lines,
        (out / "agent.log").open("w") as said,
    ):
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        paces = (f"{turn_s * part:.3f}" for part in (1, 1 / 5, 1 / 15))
        churn = (*CHURN, sys.executable, workload.build_depth(), folder, *paces)
        target = stack.enter_context(workload.running(churn))
        command = [str(workload.OTELAGENT), "agent", f"--collection-agent=http://127.0.0.1:{port}"]
        command += [f"--samples-per-second={FREQUENCY_HZ}", f"--reporter-interval={interval}"]
        metrics = free_port()
        command += [f"--metrics-listen={metrics}", *([] if everything else ["-p", str(target)])]
        agent = subprocess.Popen(command, stderr=said)
        began = time.monotonic()
        try:
            while (at := time.monotonic() - began) < 60 * minutes:
                with contextlib.suppress(OSError, IndexError):  # it has not begun, or has ended
                    rows.append({"at_s": round(at, 1)} | look(agent.pid, metrics))
                    lines.write(json.dumps(rows[-1]) + "\n")
                    lines.flush()
                    print(
                        *(f"{k}={rows[-1][k]:g}" for k in ("at_s", "RssAnon_mb", "fds")), flush=True
                    )
                if agent.poll() is not None:
                    break
                time.sleep(EVERY_S)
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(120)
    print((out / "agent.log").read_text()[-3000:])
    if not rows:
        return 1
    return judge(rows, warm_s(float(interval.rstrip("s")), turn_s)) or agent.returncode


def boot(words: list[str], minutes: float) -> int:
    """Boot the newest kernel and soak there; what is built is built before, and here."""
    workload.build_depth()
    sys.path.append(str(ROOT / "qemu"))
    import matrix

    matrix.prepare([])
    OUT.mkdir(parents=True, exist_ok=True)
    options = ["--kernel", "newest", "--cpus", "2", "--timeout", str(60 * minutes + 300)]
    options += ["--out", str(OUT), "--cache", str(matrix.CACHE)]
    run = [sys.executable, str(ROOT / "qemu" / "run.py"), *options, "--", sys.executable, __file__]
    return subprocess.run([*run, *words], check=False).returncode


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--interval", default="2s", help="of the agent's reports")
    parser.add_argument("--turn", type=float, default=0.5, help="seconds")
    parser.add_argument("--here", action="store_true", help="in no guest, its own workload")
    options = parser.parse_args()
    is_guest = "otelagent.guest" in Path("/proc/cmdline").read_text()
    if is_guest:
        subprocess.run(["/bin/busybox", "ifconfig", "lo", "127.0.0.1", "up"], check=True)
    if options.here or is_guest:
        out = GUEST_OUT if is_guest else OUT / "here"
        return soak(*(options.minutes, options.interval, options.turn, out), everything=is_guest)
    # qemu/run.py takes options for its own.
    words = [f"--minutes={options.minutes}", f"--interval={options.interval}"]
    words += [f"--turn={options.turn}"]
    return boot(words, options.minutes)


if __name__ == "__main__":
    sys.exit(main())
