# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run a program without certain system calls: `deny.py bpf:17 perf_event_open -- COMMAND`.

They fail with EPERM, as under the filters of containers. A number behind the
name denies it for that first argument alone (bpf's command). On a kernel without
seccomp the C library's `syscall` is taken over instead, which libbpf and we call.
"""

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

NUMBERS = {
    "x86_64": {"bpf": 321, "perf_event_open": 298, "fsopen": 430},
    "aarch64": {"bpf": 280, "perf_event_open": 241, "fsopen": 430},
}
# include/uapi/linux/bpf_common.h, seccomp.h and prctl.h
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, ARGUMENT_AT = 0, 16
ALLOW, DENY = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ERRNO | EPERM
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RAW_TRACEPOINT_OPEN = "bpf:17"
"""BPF_RAW_TRACEPOINT_OPEN, include/uapi/linux/bpf.h"""


def instructions(denied):
    for name in denied:
        call, _, argument = name.partition(":")
        number = NUMBERS[platform.machine()][call]
        yield LOAD, 0, 0, NUMBER_AT
        if argument:
            yield EQUAL, 0, 3, number
            yield LOAD, 0, 0, ARGUMENT_AT
            yield EQUAL, 0, 1, int(argument)
        else:
            yield EQUAL, 0, 1, number
        yield RETURN, 0, 0, DENY
    yield RETURN, 0, 0, ALLOW


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def deny_by_library(names):
    """Let the program load workloads/c/deny.c before anything else."""
    numbers = []
    for name in names:
        call, _, argument = name.partition(":")
        numbers.append(f"{NUMBERS[platform.machine()][call]}{':' * bool(argument)}{argument}")
    library = Path(tempfile.mkdtemp(prefix="otelagent-deny-"), "deny.so")
    source = Path(__file__).parent / "workloads" / "c" / "deny.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    os.environ["LD_PRELOAD"] = str(library)
    os.environ["OTELAGENT_DENY"] = " ".join(numbers)


def deny(names):
    code = b"".join(struct.pack("=HBBI", *row) for row in instructions(names))
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        if ctypes.get_errno() != errno.EINVAL:
            sys.exit(f"deny.py: {os.strerror(ctypes.get_errno())}")
        deny_by_library(names)


if __name__ == "__main__":
    at = sys.argv.index("--")
    deny(sys.argv[1:at])
    os.execvp(sys.argv[at + 1], sys.argv[at + 1 :])
