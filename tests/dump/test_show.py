# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Stacks as text and JSON."""

import json

from otelagent.dump.show import Report, show_json, show_text
from otelagent.dump.stacks import ThreadStack
from otelagent.host.image import ThreadImage
from otelagent.model import Executable, FileId, Frame, FrameType, Function, Line, Trace

LIBRARY = Executable(FileId(bytes(16)), "/lib/libx.so.1", build_id="ab12")
KERNEL = Executable(FileId(bytes(16)), "[kernel.kallsyms]")


def line(name, file="", number=0):
    return Line(Function(name, file=file), number)


FRAMES = (
    Frame(FrameType.KERNEL, 0, KERNEL, (line("do_poll"),)),
    Frame(FrameType.NATIVE, 16, LIBRARY, (line("small", "x.c", 3), line("large", "x.c", 9))),
    Frame(FrameType.NATIVE, 0x1234, LIBRARY, guessed=True, reason="no symbols in the file"),
    Frame(FrameType.PYTHON, lines=(line("work", "/app.py", 7),)),
    Frame(FrameType.JIT, 0x7000, reason="memory without a file"),
)


def report(*stacks, **fields):
    return Report(7, "prog --x", list(stacks), **fields)


def stack(frames=FRAMES, fault="", **thread):
    return ThreadStack(ThreadImage(8, "worker", "sleeping", **thread), Trace(frames, fault))


def test_a_line_for_each_function_innermost_first():
    assert list(show_text(report(stack(), held_ms=1.25))) == [
        "Process 7: prog --x",
        "Stopped for 1.2 ms: 1 thread",
        "",
        'Thread 8 "worker" (sleeping)',
        "    do_poll  [kernel.kallsyms]",
        "    small (x.c:3)  [libx.so.1]  inlined",
        "    large (x.c:9)  [libx.so.1]",
        "    libx.so.1+0x1234  (no symbols in the file)  guessed",
        "    work (/app.py:7)",
        "    [anon]+0x7000  (memory without a file)",
    ]


def test_without_native_frames_only_interpreters_are_shown():
    plain = stack(FRAMES[:2])

    script = Frame(FrameType.JIT, 0x7000, lines=(line("JS:*f /x.js:1:1"),))

    shown = list(show_text(report(stack((script, *FRAMES)), plain, native=False)))

    assert shown[4:7] == ["    JS:*f /x.js:1:1", "    work (/app.py:7)", ""]
    assert shown[-1] == "    (no frames of an interpreter)"


def test_a_short_stack_says_why():
    shown = list(show_text(report(stack(FRAMES[:1], "READ_STACK"), core="core.7")))

    assert shown[1] == "From core.7: 1 thread"
    assert shown[-1] == "    ... it ends early: a stack slot could not be read (read_stack)"


def test_what_is_wrong_is_said_of_threads_and_of_all():
    shown = list(show_text(report(stack((), problem="it ran"), problems=["x is cut"])))

    assert shown[1].startswith("Not stopped: 1 thread; stacks may be torn")
    assert shown[2] == "Note: x is cut"
    assert shown[-1] == "    (it ran)"


def test_names_do_not_steer_the_terminal():
    evil = Frame(FrameType.PYTHON, lines=(line("a\x1b[2Jb", "c\nd", 1),))

    text = "\n".join(show_text(Report(1, "x\x07", [stack((evil,))], problems=["\x1b"])))

    assert "\x1b" not in text
    assert "\x07" not in text
    assert "c\nd" not in text


def test_json_has_everything():
    made = show_json(report(stack(fault="NO_ROW"), held_ms=1.23456))

    assert made == json.loads(json.dumps(made))
    assert (made["pid"], made["stopped_ms"], made["core"]) == (7, 1.235, None)
    (thread,) = made["threads"]
    assert (thread["tid"], thread["fault"]) == (8, "no_row")
    assert [frame["function"] for frame in thread["frames"]] == [
        *("do_poll", "small", "large", None, "work", None),
    ]
    assert thread["frames"][1] == {
        "function": "small",
        "file": "x.c",
        "line": 3,
        "inlined": True,
        "type": "native",
        "address": 16,
        "module": "/lib/libx.so.1",
        "build_id": "ab12",
    }
    assert thread["frames"][3]["guessed"]
