# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads of mixed code, in an order by a seed: `shuffled.py SEED [THREADS] [FOLDER]`. Never ends.

With FOLDER `faulthandler` answers to signal SIGRTMIN+N: the thread that gets it, whatever it
does, writes its Python stack to FOLDER/N (`tools/python_stacks.py` asks so).
"""

import contextlib
import ctypes
import faulthandler
import functools
import gc
import json
import os
import random
import re
import signal
import sys
import threading
import time
import zlib

SIGNALS = 16
LOCK = threading.Lock()


def recursion(n):
    return n if n < 2 else recursion(n - 1) + recursion(n - 2)


def bodies(depth):
    class Body:
        level = depth
        squares = [n * n for n in range(4)]

        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return self.value == other.value

        def __hash__(self):
            return hash(self.value)

        def __getattr__(self, name):
            return (name, depth)

        @property
        def twice(self):
            return self.value * 2

    class Child(Body):
        def __init__(self, value):
            super().__init__(value + depth)

        def __del__(self):
            self.value = [None, depth]

    made = {Child(n): n for n in range(3)}
    return bodies(depth - 1) if depth else sum(each.twice + len(each.absent) for each in made)


def cells(one, two=2, *three, **four):
    five, six = one, two

    def middle(seven):
        def inner(eight):
            return one + two + five + six + seven + eight + len(three) + len(four)

        return inner

    return sum(middle(n)(n + 1) for n in range(3))


def tree(depth):
    yield depth
    if depth:
        for _ in range(2):
            yield from tree(depth - 1)


def generators():
    return sum(tree(4)) + len([left * right for left in tree(2) for right in tree(1)])


async def coroutine(depth):
    if depth:
        return await coroutine(depth - 1) + 1
    return sum([n async for n in counted(3)])


async def counted(count):
    for n in range(count):
        yield n


def coroutines():
    try:
        coroutine(6).send(None)
    except StopIteration as end:
        return end.value


def raising(depth):
    try:
        if not depth:
            raise ValueError(depth)
        raising(depth - 1)
    except ValueError:
        if depth % 3:
            raise
    finally:
        len(str(depth))


@contextlib.contextmanager
def context(value):
    yield value


def contexts():
    with context(1) as one, context(2) as two, LOCK:
        return one + two


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        return function(*arguments, **named)

    return wrapper


@wrapped
@wrapped
def decorated(value, *rest, key=None):
    return value, rest, key


SOURCE = "\n".join(
    [
        "def made(n):",
        "    return [n, lambda: n]",
        "class Made:",
        "    x = made(2)[1]()",
        "y = Made.x",
    ]
)


def compiled():
    names = {}
    exec(compile(SOURCE, "<made>", "exec"), names)
    return eval("sum(n * n for n in range(9)) + y", names)


def comprehensions():
    pairs = {n: {m for m in range(n)} for n in range(6)}
    return [[len(pairs[n]) for n in pairs if n > low] for low in range(3)]


def callbacks():
    text = json.dumps({"a": [contexts]}, default=lambda each: each.__name__)
    text = re.sub("[a-z]", lambda match: match.group().upper(), text)
    json.loads(text, object_hook=lambda each: sorted(each, key=lambda key: -len(key)))
    return functools.reduce(lambda a, b: a + b, map(lambda n: n + 1, range(20)))


COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
C = ctypes.CDLL(None)


def through_c():
    numbers = (ctypes.c_int * 8)(5, 3, 8, 1, 9, 2, 7, 4)
    C.qsort(numbers, 8, 4, COMPARE(lambda a, b: a[0] - b[0]))
    return list(numbers)


def without_lock():
    return zlib.crc32(zlib.compress(bytes(range(256)) * 60))


def waits():
    time.sleep(0.0005)


def shapes(order):
    return [
        functools.partial(recursion, order.randrange(8, 12)),
        functools.partial(bodies, order.randrange(3)),
        functools.partial(cells, 1, 2, 3, four=4),
        functools.partial(raising, order.randrange(5, 20)),
        functools.partial(decorated, 1, 2, key=3),
        *(generators, coroutines, contexts, compiled, comprehensions),
        *(callbacks, through_c, without_lock, waits),
    ]


def nested(todo, depth):
    """Call what is to be done from frames of differing depth."""
    if depth:
        nested(todo, depth - 1)
    else:
        for each in todo:
            each()


def work(seed):
    order = random.Random(seed)
    while True:
        todo = shapes(order)
        order.shuffle(todo)
        nested(todo, order.randrange(12))


def main():
    gc.set_threshold(20)  # up to 3.11 in allocations: also of cells, where a frame has not begun
    seed, threads = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 6
    for number in range(SIGNALS if len(sys.argv) > 3 else 0):
        path = os.path.join(sys.argv[3], str(number))
        told = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        faulthandler.register(signal.SIGRTMIN + number, file=told, all_threads=False)
    for number in range(1, threads):
        threading.Thread(target=work, args=(seed * 100 + number,), daemon=True).start()
    work(seed * 100)


main()
