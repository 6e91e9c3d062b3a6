# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Programs that never stand still, with a call graph that is known: `python graph.py KIND`.

`CALLS` says which function of this file may be called by which; every stack that
a profiler shows must be a path of it, from `<module>` on. Runs until it is killed,
on CPython 3.6 and later.
"""

import functools
import sys
import threading
import time

CALLS = {
    "main": ["<module>"],
    "calls": ["main", "run_thread", "forks", "quick_forks", "threads"],
    "fib": ["fib", "calls"],
    "by_sort": ["calls"],
    "key": ["by_sort"],
    "by_reduce": ["key", "calls"],
    "add": ["by_reduce"],
    "leaf": ["add", "produce"],
    "consume": ["calls"],
    "produce": ["produce", "consume"],
    "threads": ["main"],
    "run_thread": [],
    "churn": ["main"],
    "forks": ["main"],
    "quick_forks": ["main"],
    "subinterpreters": ["main"],
    "inner": ["<module>"],
    "deepest": ["inner"],
}
INNER = """
def deepest(n):
    total = 0
    for i in range(n):
        total += i
    return total
def inner():
    for i in range(50):
        deepest(1000)
inner()
"""


def leaf(n):
    total = 0
    for i in range(n):
        total += i
    return total


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def add(a, b):
    return a + leaf(20)


def by_reduce(n):
    return functools.reduce(add, range(n))


def key(item):
    return by_reduce(5)


def by_sort():
    return sorted(range(10), key=key)


def produce(depth):
    if depth:
        yield from produce(depth - 1)
    yield leaf(30)


def consume():
    for item in produce(4):
        pass


def calls(seconds=1e9):
    until = time.time() + seconds
    while time.time() < until:
        fib(8)
        by_sort()
        by_reduce(20)
        consume()


def run_thread(seconds):
    calls(seconds)


def threads():
    for _ in range(4):
        threading.Thread(target=run_thread, args=(1e9,), daemon=True).start()
    calls()


def churn():
    while True:
        thread = threading.Thread(target=run_thread, args=(0.05,))
        thread.start()
        thread.join()


def forks():
    import os

    while True:
        pid = os.fork()
        if not pid:
            calls(0.2)
            os._exit(0)
        os.waitpid(pid, 0)


def quick_forks():
    """Children that live for 20 ms, beside threads of the parent."""
    import os

    for _ in range(20):
        threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
    while True:
        pid = os.fork()
        if not pid:
            calls(0.02)
            os._exit(0)
        os.waitpid(pid, 0)


def subinterpreters():
    if sys.version_info >= (3, 13):
        import _interpreters as module
    else:
        import _xxsubinterpreters as module
    made = module.create()
    while True:
        (module.exec if sys.version_info >= (3, 13) else module.run_string)(made, INNER)


def main():
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
