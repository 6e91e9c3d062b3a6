# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads of one kind each, for CPython 3.6 and newer: `kinds.py KIND…`.

Writes what it knows of its threads to `$OA_OUT/stacks.json` when all of them stand, says
`ready`, and stays. Thread id → [[function, line]], the newest frame first.
"""

import asyncio
import concurrent.futures
import ctypes
import functools
import gc
import json
import os
import queue
import re
import select
import sys
import threading
import time

started = []
native = {}
below = {}  # thread id: the file where an interpreter that runs in it says its stack
awaited = []
LIBC = ctypes.CDLL(None)
GETTID = 178 if os.uname().machine == "aarch64" else 186
SIGTRAP = 5
gate = threading.Event()


def note():
    native[threading.get_ident()] = LIBC.syscall(GETTID)
    started.append(threading.get_ident())


def stand():
    note()
    gate.wait()


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


def beginning():
    """Stand in a collection of garbage that `made` starts, as it allocates a cell (3.11)."""

    def standing(phase, info):
        gc.callbacks.clear()
        stand()

    def made(cell):
        return lambda: cell

    gc.callbacks.append(standing)
    gc.set_threshold(1)
    made(1)


def many():
    awaited.append(24)
    for _ in range(24):
        threading.Thread(target=recursion, args=(1,), daemon=True).start()
    recursion(2)


# Threads that wait for something, as most threads of most programs do.


def idle_queue():
    items = queue.Queue()
    note()
    items.get()


def idle_sleep():
    note()
    time.sleep(1000)


def idle_lock():
    lock = threading.Lock()
    lock.acquire()
    note()
    lock.acquire()


def idle_select():
    ends = os.pipe()
    note()
    select.select(ends[:1], [], [])


def idle_pool():
    def wait():
        note()
        concurrent.futures.Future().result()

    concurrent.futures.ThreadPoolExecutor(1).submit(wait).result()


# Interpreters in the interpreter.

SUB = """
import json, os, sys

def say(frame):
    stack = []
    while frame:
        stack.append([getattr(frame.f_code, "co_qualname", frame.f_code.co_name), frame.f_lineno])
        frame = frame.f_back
    with open({path!r} + ".new", "w") as out:
        json.dump(stack, out)
    os.rename({path!r} + ".new", {path!r})

def within(depth):
    if depth:
        return within(depth - 1)
    say(sys._getframe()), os.read({end}, 1)

within(3)
"""


def new_interpreter():
    """Give a function that runs a text in a new interpreter."""
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        return interpreters.create().exec
    if sys.version_info >= (3, 13):
        import _interpreters

        return functools.partial(_interpreters.exec, _interpreters.create())
    if sys.version_info < (3, 8):  # only one that is made, runs and ends at once
        import _testcapi

        return _testcapi.run_in_subinterp
    import _xxsubinterpreters

    return functools.partial(_xxsubinterpreters.run_string, _xxsubinterpreters.create())


def run_interpreter(run, within=0):
    path = os.path.join(os.environ["OA_OUT"], "sub-%d.json" % LIBC.syscall(GETTID))
    below[LIBC.syscall(GETTID)] = (path, within)
    note()
    run(SUB.format(path=path, end=os.pipe()[0]))


def subinterpreter():
    run_interpreter(new_interpreter())


def subinterpreter_below():
    list(map(run_interpreter, [new_interpreter()]))


def subinterpreter_within():
    """Run one that the one below has made: the newest state has the newest frames."""
    if sys.version_info < (3, 8):
        within = "import _testcapi; _testcapi.run_in_subinterp({!r})"
    else:
        within = "import _xxsubinterpreters as x; x.run_string(x.create(), {!r})"
    run = new_interpreter()
    run_interpreter(lambda text: run(within.format(text)), within=1)


def subinterpreter_nested():
    """Run an older one in a newer one; the newest state of the thread is not the newest frame's."""
    if sys.version_info >= (3, 13):
        import _interpreters as module

        within = "import _interpreters; _interpreters.exec({}, {!r})"
    else:
        import _xxsubinterpreters as module

        within = "import _xxsubinterpreters as x; x.run_string({}, {!r})"
    old, new = module.create(), module.create()
    run = module.exec if sys.version_info >= (3, 13) else module.run_string
    run_interpreter(lambda text: run(new, within.format(int(old), text)), within=1)


moved = []


def subinterpreter_moved():
    """Run one that the main thread made."""
    while not moved:
        time.sleep(0.01)
    run_interpreter(moved.pop())


# gdb goes on from here to where the target's evaluation begins.


def target(value):
    return value


def entering(depth=3):
    if depth:
        return entering(depth - 1)
    native[threading.get_ident()] = LIBC.syscall(GETTID)
    trap = getattr(LIBC, "raise")
    write_stacks(), trap(SIGTRAP), list(map(target, [1]))


# gdb goes on to where the main thread, which has ended, evaluates once more.


def leaving():
    native[threading.get_ident()] = LIBC.syscall(GETTID)
    for _ in range(3):
        threading.Thread(target=recursion, args=(2,)).start()
    while len(started) < 3:
        time.sleep(0.01)
    time.sleep(0.2)
    write_stacks()
    with open(os.path.join(os.environ["OA_OUT"], "stacks.json")) as own:
        stacks = json.load(own)
    stacks[str(native[threading.get_ident()])] = []
    with open(os.path.join(os.environ["OA_OUT"], "stacks.json"), "w") as out:
        json.dump(stacks, out)


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
    for tid, (path, within) in below.items():
        with open(path) as own:
            found[tid] = json.load(own) + [["<module>", 1]] * within + found[tid]
    return found


def write_stacks():
    own = {
        tid: [f for f in stack if f[0] != "write_stacks" and f[0] != "own_stacks"]
        for tid, stack in own_stacks().items()
    }
    with open(os.path.join(os.environ["OA_OUT"], "stacks.json"), "w") as out:
        json.dump(own, out)


def main():
    sys.setrecursionlimit(100000)
    threading.stack_size(64 << 20)
    kinds = sys.argv[1:]
    if kinds == ["entering"]:
        entering()
    if kinds == ["leaving"]:
        return leaving()
    awaited.append(len(kinds))
    for name in kinds:
        threading.Thread(target=globals()[name], daemon=True).start()
    if "subinterpreter_moved" in kinds:
        moved.append(new_interpreter())
    while len(started) < sum(awaited) or not all(
        os.path.exists(path) for path, _ in below.values()
    ):
        time.sleep(0.01)
    time.sleep(0.2)
    write_stacks()
    print("ready", flush=True)
    time.sleep(1000)


main()
sys.argv[1:] == ["leaving"] and getattr(LIBC, "raise")(SIGTRAP)
