# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads that stay at fixed depths: `parked.py DIRECTORY` of the built `parkedext`.

Those that spin in C hold no lock, so every one of them runs; one spins in Python.
"""

import functools
import sys
import threading
import time

sys.path.insert(0, sys.argv[1])
import parkedext  # noqa: E402


def down(depth, last):
    if depth:
        down(depth - 1, last)
    else:
        last()


class Holder:
    def __init__(self, last):
        self.last = last

    def __len__(self):
        self.last()
        return 1

    def __getattr__(self, name):
        return self.last()


def in_c():
    down(10, parkedext.spin)


def in_c_in_python_in_c():
    down(3, lambda: parkedext.call(functools.partial(down, 4, parkedext.spin)))


def by_special_methods():
    len(Holder(lambda: Holder(parkedext.spin).missing))


def by_generator():
    def numbers():
        yield 1
        parkedext.spin()

    sum(map(int, numbers()))


def in_python():
    def spin():
        while True: pass  # fmt: skip # noqa: E701 (one line: every sample has the same)

    down(5, spin)


for target in (in_c, in_c_in_python_in_c, by_special_methods, by_generator):
    threading.Thread(target=target, daemon=True).start()
time.sleep(0.3)
print("ready", flush=True)
in_python()
