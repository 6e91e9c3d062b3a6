# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A made-up profile with every kind of frame that a real one has, for tests and trials."""

from __future__ import annotations

import random

from otelagent.model import (
    Executable,
    FileId,
    Frame,
    FrameType,
    Function,
    Line,
    Pid,
    Process,
    Thread,
    Trace,
)
from otelagent.profile.model import Profile

START_NS = 1_790_000_000_000_000_000
PERIOD_NS = 10_101_010

PYTHON = Executable(FileId(bytes(range(16))), "/usr/bin/python3.11", "ab" * 20, "", 0x1000, 0x5000)
LIBC = Executable(
    FileId(b"c" * 16), "/usr/lib/libc.so.6", "cd" * 20, "", 0x26000, 0x17B000, 0x26000
)
NODE = Executable(FileId(b"n" * 16), "/usr/bin/node", "")
API = Executable(FileId(b"g" * 16), "/srv/api-server", "", "abc/def/ghi", 0x401000, 0x900000)
KERNEL = Executable(FileId(b"k" * 16), "[kernel.kallsyms]", "ef" * 20)


def native(executable: Executable, address: int, *names: str, **more) -> Frame:
    """A frame of machine code; the names are its inlined functions, innermost first."""
    lines = tuple(
        Line(Function(name, f"_Z{len(name)}{name}v", f"src/{name}.c", 10), 12 + i)
        for i, name in enumerate(names)
    )
    return Frame(FrameType.NATIVE, address, executable, lines, **more)


def python(name: str, file: str, line: int) -> Frame:
    """A Python frame."""
    return Frame(FrameType.PYTHON, lines=(Line(Function(name, "", file, line - 2), line),))


def go(address: int, *names: str) -> Frame:
    """A Go frame with inlined functions."""
    lines = tuple(Line(Function(name, "", "/src/api/main.go", 5), 9) for name in names)
    return Frame(FrameType.GO, address, API, lines)


def kernel(name: str, address: int) -> Frame:
    """A kernel frame."""
    lines = (Line(Function(name)),) if name else ()
    return Frame(FrameType.KERNEL, address, KERNEL, lines)


START = native(PYTHON, 0x1180, "_start")
MAIN = native(PYTHON, 0x1200, "Py_RunMain", "main")
SYSCALL = (
    kernel("vfs_read", 0xFFFFFFFF81200000),
    kernel("ksys_read", 0xFFFFFFFF81210000),
    kernel("do_syscall_64", 0xFFFFFFFF81000010),
    kernel("entry_SYSCALL_64_after_hwframe", 0xFFFFFFFF81E00000),
)
APP = "/srv/app/web.py"
HANDLER = (
    python("Server.handle", APP, 40),
    python("serve_forever", "/usr/lib/python3.11/socketserver.py", 233),
    python("<module>", APP, 120),
)
JSON_C = native(PYTHON, 0x2A00, "PyUnicode_New", "scan_once_unicode", "_parse_object_unicode")

WEB_TRACES = [
    Trace((*SYSCALL, native(LIBC, 0xF8000, "__read"), *HANDLER, MAIN, START)),
    Trace((JSON_C, python("JSONDecoder.decode", "/usr/lib/python3.11/json/decoder.py", 337),
           python("load_user", APP, 60), *HANDLER, MAIN, START)),
    Trace((native(LIBC, 0x90010, "malloc"), JSON_C,
           python("JSONDecoder.decode", "/usr/lib/python3.11/json/decoder.py", 337),
           python("load_user", APP, 61), *HANDLER, MAIN, START)),
    Trace((python("render</script>", APP, 77), *HANDLER, MAIN, START)),
    Trace((python("fib", APP, 90),) * 12 + (*HANDLER, MAIN, START)),
    Trace((native(LIBC, 0x91234, reason="no symbol covers the address"), *HANDLER, MAIN, START)),
]  # fmt: skip
NODE_TRACES = [
    Trace((native(NODE, 0x1234560, reason="no symbol table"),
           native(NODE, 0x1230000, "v8::internal::Execution::Call", guessed=True),
           native(NODE, 0x1100000, "node::Start(int, char**)", guessed=True),
           native(LIBC, 0x27000, "__libc_start_main"))),
    Trace((Frame(FrameType.JIT, 0x7F0012345678),), fault="NO_ROW"),
    Trace((kernel("", 0xFFFFFFFFC0000123), *SYSCALL[2:]), fault="READ_STACK"),
]  # fmt: skip
GO_TRACES = [
    Trace((go(0x402000, "bytes.IndexByte", "bytes.Index", "main.parse"), go(0x403000, "main.serve"),
           go(0x404000, "runtime.goexit"))),
    Trace((go(0x405000, "runtime.mallocgc"), go(0x402080, "main.parse"),
           go(0x403000, "main.serve"), go(0x404000, "runtime.goexit"))),
    Trace((*SYSCALL, go(0x406000, "internal/runtime/syscall.Syscall6"),
           go(0x403050, "main.serve"), go(0x404000, "runtime.goexit"))),
]  # fmt: skip
WEB = Process(Pid(4321), "python3", "/usr/bin/python3.11", 77, 2, (("container.id", "c0ffee"),))
WORKLOADS = [
    (WEB, [Thread(4321, "python3"), Thread(4322, "worker-1")], WEB_TRACES),
    (Process(Pid(77), "node", "/usr/bin/node", 5), [Thread(77, "node")], NODE_TRACES),
    (Process(Pid(900), "api-server", "/srv/api-server"), [Thread(901, "api-server")], GO_TRACES),
]


def synthetic_profile(samples: int = 2000, seed: int = 1, *, tilt: int = 0) -> Profile:
    """Draw samples from the traces above; `tilt` makes the first trace of each heavier."""
    chance = random.Random(seed)
    profile = Profile(
        period_ns=PERIOD_NS,
        start_unix_ns=START_NS,
        duration_ns=samples * PERIOD_NS,
        host=(("host.name", "tester"), ("os.type", "linux")),
        notes={"lost.sample": 3, "fault.NO_ROW": 7},
    )
    for number in range(samples):
        process, threads, traces = chance.choices(WORKLOADS, (6, 2, 3))[0]
        trace = chance.choices(traces, [1 + tilt, *range(2, len(traces) + 1)])[0]
        time_ns = START_NS + number * PERIOD_NS
        profile.add(trace, process, chance.choice(threads), 1, 1, [time_ns])
    return profile


def as_dict(profile: Profile) -> dict:
    """Everything that the samples of a profile say, to compare two of them."""
    return {
        (trace, process, thread): (group.count, group.value, sorted(group.timestamps_ns))
        for trace, process, thread, group in profile
    }
