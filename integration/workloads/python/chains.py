# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Call chains of every kind, for CPython 3.6 and later: `python chains.py KIND`.

The innermost function prints a line of JSON with each thread's stack as
`sys._getframe` sees it, newest first, as [name, file, line], and then parks:
KIND `x` blocks reading stdin, KIND `x,spin` burns the CPU at the same place.
"""

import ctypes
import functools
import json
import sys
import threading

SPIN = False


def look(frame):
    stack = []
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        stack.append([name, code.co_filename, frame.f_lineno, code.co_firstlineno])
        frame = frame.f_back
    return stack


def tell(frame, others=()):
    stacks = [look(frame)] + [look(other) for other in others]
    sys.stdout.write(json.dumps(stacks) + "\n")
    sys.stdout.flush()


def park():
    """Stay here: `tell` ran one line before, in the same frame."""
    tell(sys._getframe(1))
    if SPIN:
        spin()
    sys.stdin.readline()


def spin():
    while True:
        for _ in range(1000):
            pass


def recursion(depth=30):
    if depth:
        return recursion(depth - 1)
    park()
    return None  # noqa: E702


def generator(depth=3):
    if depth:
        for item in generator(depth - 1):
            yield item
    else:
        park()
        yield 1  # noqa: E702


def generators():
    return list(generator())


class Awaitable:
    def __await__(self):
        park()
        return iter(())  # noqa: E702


async def innermost():
    await Awaitable()


async def outermost():
    await innermost()


def asynchronous():
    import asyncio

    loop = asyncio.new_event_loop()
    loop.run_until_complete(outermost())


def through_sorted(depth):
    """Python → C (list.sort) → Python, `depth` times."""
    if not depth:
        park()
        return 0  # noqa: E702
    return sorted([depth], key=lambda item: through_sorted(item - 1))[0]


def switches():
    # Before 3.8 a call from C takes more C frames: 1,024 in all are kept.
    through_sorted(64 if sys.version_info >= (3, 8) else 48)


@functools.lru_cache(maxsize=None)
def through_cache(depth):
    if not depth:
        park()
        return 0  # noqa: E702
    return functools.reduce(lambda a, b: through_cache(b), [depth, depth - 1])


def c_extension():
    through_cache(5)


def callback():
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: park() or 0)
    function(1)


class Outer:
    class Inner:
        def method(self):
            park()
            return [x for x in (1,)]  # noqa: E702

        @property
        def attribute(self):
            return self.method()


def methods():
    return Outer.Inner().attribute


def executed():
    source = "\n\n\ndef made_by_exec():\n    park()\nmade_by_exec()\n"
    exec(compile(source, "<made up>", "exec"), {"park": park, "__name__": "made"})


def names():
    space = {"park": park, "__name__": "made"}
    source = "def gr\u00fc\u00df():\n    park()\ndef \u03b1\u03b2\u03b3():\n    gr\u00fc\u00df()\n\u03b1\u03b2\u03b3()\n"
    exec(compile(source, "/tmp/\U0001f40d \u03c0.py", "exec"), space)


def threads():
    started, release = [], threading.Event()
    for number in range(10):
        ready = threading.Event()
        thread = threading.Thread(target=waiting, args=(number, ready, release), daemon=True)
        thread.start()
        ready.wait()
        started.append(thread)
    park()


def waiting(number, ready, release):
    ready.set()
    if number:
        return waiting(number - 1, ready, release)
    release.wait()


def main():
    global SPIN
    kind, _, spins = sys.argv[1].partition(",")
    SPIN = bool(spins)
    globals()[kind]()


if __name__ == "__main__":
    main()
