# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The main job on a real workload: record it, show the hottest functions, leave a flame graph."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent
BUILD = ROOT / "build"
SECONDS = 6
OTELAGENT = ROOT / ".venv" / "bin" / "otelagent"
PYTHON = ROOT / ".venv" / "bin" / "python"


def build_worker() -> Path:
    """Compile the C part unless it is there: optimised and without frame pointers."""
    source, target = HERE / "worker.c", BUILD / "demo-worker"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        flags = ["-O2", "-g", "-fomit-frame-pointer", "-Wall", "-Wextra"]
        subprocess.run(["cc", *flags, source, "-o", target], check=True)
    return target


def main() -> int:
    """Record and report."""
    if os.geteuid() != 0:
        sys.exit("make demo needs root, as it loads BPF programs into the kernel: sudo make demo")
    worker = build_worker()
    target = BUILD / "demo.html"
    record = [OTELAGENT, "record", "--force", "-o", target, "--"]
    workload = [PYTHON, HERE / "workload.py", str(SECONDS), worker]
    status = subprocess.run([*record, *workload], check=False).returncode
    if status:
        return status
    print(flush=True)
    status = subprocess.run([OTELAGENT, "report", target], check=False).returncode
    print(f"\nThe flame graph: {target.relative_to(ROOT)} (open it in a browser)")
    return status


if __name__ == "__main__":
    sys.exit(main())
