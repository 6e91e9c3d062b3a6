# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A steady workload in Python: `steady.py [DEPTH]` spins below DEPTH calls until it is ended."""

import json
import sys


def parse(text: str) -> int:
    return len(json.loads(text))


def multiply(size: int) -> int:
    total = 0
    for i in range(size):
        total += i * i
    return total


def work(text: str) -> int:
    return parse(text) + multiply(2000)


def descend(depth: int, text: str) -> None:
    if depth > 1:
        descend(depth - 1, text)
        return
    while True:
        work(text)


sys.setrecursionlimit(5000)
descend(int(sys.argv[1]) if len(sys.argv) > 1 else 5, json.dumps(list(range(500))))
