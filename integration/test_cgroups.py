# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A cgroup as the target: of the unified tree by BPF, of version 1 by its processes."""

import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from integration.recording import OTELAGENT, build_c, read_recording, record
from otelagent.host.cgroup import mounts


@contextmanager
def group(*, is_unified):
    """A cgroup of our own, removed at the end."""
    known = mounts(Path("/proc/self/mountinfo").read_text())
    points = [point for point, unified in known if unified == is_unified]
    for point in points:
        path = point / "otelagent-test"
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / "cgroup.procs").exists() and not (path / "cpuset.cpus").exists():
            break
        path.rmdir()
    else:
        pytest.skip("needs a cgroup tree that can be written")
    try:
        yield path
    finally:
        path.rmdir()


@contextmanager
def inside(path, *command, **options):
    """A process of ours in the group, from its first instruction on."""
    join = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(path / "cgroup.procs")]
    with subprocess.Popen([*join, *map(str, command)], **options) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    flags = ("-O1", "-fomit-frame-pointer", "-pthread")
    return build_c(tmp_path_factory.mktemp("lives"), "lives", *flags)


@pytest.mark.parametrize("is_unified", [True, False])
def test_only_processes_of_the_group_are_recorded(tmp_path, lives, is_unified):
    outside = subprocess.Popen([lives, "spin", "8"])
    try:
        with group(is_unified=is_unified) as path, inside(path, lives, "spin", "8") as process:
            recording = record(tmp_path, "-F", "199", "-d", "1", "--cgroup", str(path))
            assert process.poll() is None
    finally:
        outside.kill()
        outside.wait()

    assert 40 < recording.samples <= 230  # one process of two
    assert recording.share("_start", "main", "spin_here") > 0.9
    assert recording.complete_percent > 95
    assert ("version 1" in recording.said) is not is_unified


def test_process_that_joins_later_is_recorded(tmp_path, lives):
    with group(is_unified=True) as path:
        script = f"sleep 0.5; echo $$ > {path}/cgroup.procs; exec {lives} spin 8"
        late = subprocess.Popen(["sh", "-c", script])
        try:
            recording = record(tmp_path, "-F", "199", "-d", "2", "--cgroup", str(path))
        finally:
            late.kill()
            late.wait()

    assert recording.share("_start", "main", "spin_here") > 0.9


def test_processes_that_ran_before_are_whole_though_gone_when_they_are_looked_at(tmp_path):
    """The profiler gets no CPU while they run: their mappings were noted when it began."""
    count = "read line; i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
    output = tmp_path / "stacks.folded"
    with group(is_unified=True) as path, ExitStack() as stack:
        shells = [
            stack.enter_context(inside(path, "sh", "-c", count, stdin=subprocess.PIPE))
            for _ in range(4)
        ]
        command = ("record", "-v", "-F", "199", "-d", "60", "-o", output, "--cgroup", path)
        recorder = subprocess.Popen(
            [OTELAGENT, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        said = ""
        while "otelagent: sampling" not in said:
            line = recorder.stderr.readline()
            assert line, said
            said += line
        recorder.send_signal(signal.SIGSTOP)
        for shell in shells:
            shell.communicate(b"\n")
        recorder.send_signal(signal.SIGCONT)
        recorder.send_signal(signal.SIGINT)
        recording = read_recording(output, said + recorder.communicate(timeout=60)[1])

    assert recording.samples > 20, recording.said
    assert recording.complete_percent > 99, recording.said
    assert {stack[0] for stack in recording.stacks} == {Path("/bin/sh").resolve().name}
