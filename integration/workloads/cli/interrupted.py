# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Counts how often it is interrupted: writes `ready`, then a number, into the file it is given."""

import signal
import sys

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
with open(sys.argv[1], "w", buffering=1) as stream:
    stream.write("ready\n")
    signal.sigwait({signal.SIGINT})
    again = signal.sigtimedwait({signal.SIGINT}, 0.7)
    stream.write("%d\n" % (2 if again else 1))
sys.exit(3)
