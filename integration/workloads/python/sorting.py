# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""sorting.py SECONDS: Python that calls C that calls Python: <module>, outer, sorted, key, leaf."""

import sys
import time


def leaf(times):
    total = 0
    for number in range(times):
        total += number * number
    return total


def key(_item):
    return leaf(200)


def outer():
    sorted(range(20), key=key)


END = time.process_time() + float(sys.argv[1])
while time.process_time() < END:
    outer()
