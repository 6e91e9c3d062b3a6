# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs on a CPU for so many seconds of CPU time, then exits with a status: [seconds [status]]."""

import sys
import time


def leaf():
    for _ in range(20000):
        pass


seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
while time.process_time() < seconds:
    leaf()
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
