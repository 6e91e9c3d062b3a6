# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A child that reads files for us does not outlive us, however we end."""

import subprocess
import sys
import time
from pathlib import Path

FORKER = """
import os, time
from otelagent._native import lib
parent = os.getpid()
if (pid := os.fork()) == 0:
    lib.oa_die_with(parent)
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_child_is_killed_with_its_parent():
    with subprocess.Popen([sys.executable, "-c", FORKER], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        assert not has_ended(child)
        parent.kill()
        parent.stdout.close()

    deadline = time.monotonic() + 20
    while not has_ended(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
