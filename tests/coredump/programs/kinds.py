# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads of one kind each, for CPython 3.6 and newer: `kinds.py KIND…`.

Writes what it knows of its threads to `$OA_OUT/stacks.json` when all of them stand, says
`ready`, and stays. Thread id → [[function, line]], the newest frame first.
"""

import asyncio
import ctypes
import functools
import json
import os
import re
import sys
import threading
import time

started = []
LIBC = ctypes.CDLL(None)
GETTID = 178 if os.uname().machine == "aarch64" else 186
gate = threading.Event()


def stand():
    started.append(threading.get_ident())
    native[threading.get_ident()] = LIBC.syscall(GETTID)
    gate.wait()


native = {}


def recursion(depth=12):
    if depth:
        return recursion(depth - 1)
    stand()


def numbers(depth):
    if depth:
        yield from numbers(depth - 1)
    else:
        stand()
        yield 1


def generators():
    for _ in numbers(4):
        pass


async def inner(depth):
    if depth:
        await inner(depth - 1)
    else:
        stand()


def coroutines():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(inner(3))


def ctypes_callback():
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )

    @kind
    def compare(a, b):
        recursion(2)
        return 0

    array = (ctypes.c_int * 3)(3, 2, 1)
    LIBC.qsort(array, 3, 4, compare)


def c_callbacks():
    def key(value):
        return re.sub("x", lambda match: recursion(1) or "y", "axb")

    sorted([3, 1], key=key)


class Special:
    def __len__(self):
        recursion(1)
        return 1

    def __getattr__(self, name):
        return len(self)

    @property
    def size(self):
        return self.missing


def special():
    functools.reduce(lambda a, b: Special().size, [1, 2])


def classes():
    class Inner:
        value = recursion(1)


def deep():
    recursion(int(os.environ.get("OA_DEPTH", "1400")))


def execs():
    exec(compile("def made():\n  recursion(1)\nmade()", "<made>", "exec"), globals())


def comprehension():
    return [recursion(1) for _ in range(2)] + list(map(lambda n: n, {n: n for n in range(1)}))


def imports():
    import importlib

    folder = os.path.join(os.environ["OA_OUT"], "parts")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "oa_part.py"), "w") as out:
        out.write("import __main__\n__main__.recursion(1)\n")
    sys.path.insert(0, folder)
    importlib.import_module("oa_part")


def extension():
    sys.path.insert(0, os.environ["OA_OUT"])
    import parkedext

    parkedext.call(functools.partial(recursion, 2))


def own_stacks():
    found = {}
    for ident, frame in sys._current_frames().items():
        tid = native.get(ident)
        if tid is None:
            continue
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append([getattr(code, "co_qualname", code.co_name), frame.f_lineno])
            frame = frame.f_back
        found[tid] = stack
    return found


def main():
    sys.setrecursionlimit(100000)
    threading.stack_size(64 << 20)
    kinds = sys.argv[1:]
    for name in kinds:
        threading.Thread(target=globals()[name], daemon=True).start()
    while len(started) < len(kinds):
        time.sleep(0.01)
    time.sleep(0.2)
    with open(os.path.join(os.environ["OA_OUT"], "stacks.json"), "w") as out:
        json.dump(own_stacks(), out)
    print("ready", flush=True)
    time.sleep(1000)


main()
