# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent dump` on children of our own: no root is needed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders.cores import (
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    Core,
    files,
    note,
    psinfo,
    status,
)

# PR_SET_PTRACER: who is not its ancestor may trace it, where Yama would not let them.
PROGRAM = """
import ctypes, os, threading

ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)

def wait(gate):
    os.write(1, b"ready\\n")
    gate.wait()

wait(threading.Event())
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A cache of our own, which the second run finds full."""
    return os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def dump(*arguments, env=None):
    command = [sys.executable, "-m", "otelagent", "dump", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_text_has_a_header_and_python_frames_in_place(child, environment):
    done = dump("-p", child, env=environment)

    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].startswith(f"Process {child}: {sys.executable} -c")
    assert lines[1].startswith("Stopped for ")
    assert lines[1].endswith(" ms: 1 thread")
    names = [line.split()[0] for line in lines[4:]]
    assert names.index("wait") < names.index("<module>") < names.index("_start")
    assert "    wait (<string>:8)" in lines


def test_without_native_frames_only_python_is_shown(child, environment):
    done = dump("-p", child, "--no-native", "--json", env=environment)

    shown = json.loads(done.stdout)
    frames = shown["threads"][0]["frames"]
    assert [frame["function"] for frame in frames][-2:] == ["wait", "<module>"]
    assert {frame["type"] for frame in frames} == {"cpython"}
    assert shown["stopped_ms"] > 0


def test_a_stopped_process_stays_stopped(child, environment):
    os.kill(child, signal.SIGSTOP)
    while state_of(child) != "T":
        time.sleep(0.001)

    done = dump("-p", child, "--json", env=environment)

    assert json.loads(done.stdout)["threads"][0]["state"] == "stopped"
    assert "wait" in done.stdout
    assert state_of(child) == "T"
    os.kill(child, signal.SIGCONT)


def test_without_a_stop_it_says_what_that_means(child, environment):
    done = dump("-p", child, "--nonblocking", env=environment)

    assert "Not stopped" in done.stdout
    assert "torn" in done.stdout
    assert "_start" in done.stdout


def test_a_thread_that_is_named_leads_to_its_process():
    done = dump("-p", 1 << 22)

    assert done.returncode == 1
    assert done.stderr == f"otelagent: there is no process {1 << 22}\n"


@pytest.mark.parametrize(
    "arguments", [(), ("-p", "1", "--core", "x"), ("-p", "1", "--sysroot", "/")]
)
def test_wrong_usage_is_2(arguments):
    assert dump(*arguments).returncode == 2


def test_a_process_that_is_traced_already_is_told(child):
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(child)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    try:
        assert tracer.stdout.readline() == b"traced\n"

        done = dump("-p", child)

        assert done.returncode == 1
        assert f"process {child} is being traced by python" in done.stderr
    finally:
        tracer.communicate(b"\n")


TRACER = """
import ctypes, sys
assert ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0
print("traced", flush=True)
sys.stdin.readline()
"""


def test_a_core_without_its_files_shows_file_and_offset(tmp_path):
    made = Core()
    made.notes = [
        note(NT_PRSTATUS, status(5, signal=11, rip=0x401234, rsp=0x8000)),
        note(NT_PRPSINFO, psinfo(5, "gone", "gone --now")),
        note(NT_FILE, files((0x401000, 0x403000, 3, "/no/such/program"))),
    ]
    made.load(0x8000, bytes(4096))
    path = tmp_path / "core"
    path.write_bytes(made.write())

    done = dump("--core", path)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Process 5: gone --now", f"From {path}: 1 thread"]
    assert lines[2].startswith("Note: /no/such/program cannot be opened: No such file")
    assert 'Thread 5 "gone" (SIGSEGV)' in lines
    assert any(line.startswith("    program+0x3234  (/no/such/program cannot") for line in lines)
    assert "... it ends early" in lines[-1]


def test_what_is_no_core_is_refused(tmp_path):
    path = tmp_path / "core"
    path.write_text("hello")

    done = dump("--core", path)

    assert done.returncode == 1
    assert done.stderr == f"otelagent: {path}: not a core file: not an ELF file\n"
