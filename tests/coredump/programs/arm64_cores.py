# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run in a guest: starts programs and lets each leave a core file when it says `ready`.

arm64_cores.py JOBS.json
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

OUT = Path("/tmp/out")  # noqa: S108 (where the guest's is)


def leave_core(job: dict) -> None:
    folder = Path("/tmp") / job["name"]  # noqa: S108
    folder.mkdir()
    env = os.environ | job["env"] | {"OA_OUT": str(folder)}
    process = subprocess.Popen(job["run"], stdout=subprocess.PIPE, env=env, cwd=folder)
    for _ in range(job["lines"]):
        line = process.stdout.readline()
        if not line.startswith(b"ready"):
            raise RuntimeError(f"{job['name']} said {line!r}")
    time.sleep(0.5)
    if job["by_gdb"]:
        stop = ("gdb", "-nx", "-batch", "-p", str(process.pid), "-ex", "gcore /tmp/core")
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)
        process.kill()
    else:
        os.kill(process.pid, signal.SIGABRT)
    process.wait()
    shutil.move("/tmp/core", OUT / f"{job['name']}.core")
    if (folder / "stacks.json").exists():
        shutil.copy(folder / "stacks.json", OUT / f"{job['name']}.json")
    print(job["name"], flush=True)


def main() -> None:
    Path("/proc/sys/kernel/core_pattern").write_text("/tmp/core")
    Path("/proc/sys/kernel/core_uses_pid").write_text("0")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        leave_core(job)


main()
