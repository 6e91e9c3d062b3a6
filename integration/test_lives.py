# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that live oddly: each records whole stacks with names, and leaves nothing behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.recording import OTELAGENT, build_c, read_recording, record
from integration.runs import wait_until
from otelagent.bpf.maps import HashMap, LpmTrie
from otelagent.host import procfs
from otelagent.options import Options
from otelagent.profiler import Profiler

CHAIN = ("main", "spin_here")


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    flags = ("-O1", "-fomit-frame-pointer", "-pthread")
    return build_c(tmp_path_factory.mktemp("lives"), "lives", *flags)


@contextmanager
def running(*command):
    """A process of ours; its end is ours, too."""
    with subprocess.Popen([str(part) for part in command]) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_image(pid, name):
    """Wait until a process runs the program."""
    wait_until(lambda: procfs.read_comm(pid) == name, name)
    time.sleep(0.05)  # its libraries


def follow(tmp_path, pid, seconds="0.7"):
    return record(tmp_path, "-F", "199", "-d", seconds, "-p", str(pid))


def assert_whole(recording, *functions, least=40):
    assert recording.user_stacks >= least, recording.said
    assert recording.share(*functions) > 0.97, recording.said
    assert recording.complete_percent > 97, recording.said


def test_exec_by_a_thread_that_is_not_the_first(tmp_path, lives):
    recording = record(tmp_path, "-F", "199", "--", str(lives), "exec", "0.5")

    assert_whole(recording, "_start", *CHAIN)


def test_process_whose_first_thread_has_ended(tmp_path, lives):
    with running(lives, "leader", 5) as process:
        wait_until(lambda: procfs.other_thread(process.pid), "the end of the first thread")
        time.sleep(0.3)
        recording = follow(tmp_path, process.pid)

    assert_whole(recording, "start_thread", "burn", "spin_here")


@pytest.mark.parametrize(("mode", "first"), [("main", "_start"), ("thread", "start_thread")])
def test_a_frame_larger_than_a_deferred_stacks_copy_is_stepped_over(tmp_path, mode, first):
    """A frame of 600 KB, and code that is not known yet when the first samples come."""
    huge = build_c(tmp_path, "huge", "-O1", "-fomit-frame-pointer", "-pthread")
    many = f"for i in 1 2 3 4 5; do for j in 1 2 3 4; do {huge} {mode}; done; done"

    recording = record(tmp_path, "-v", "-F", "997", "--", "sh", "-c", many)

    assert int(re.search(r"(\d+) +deep: ", recording.said)[1]) >= 3, recording.said
    assert recording.complete_percent > 99, recording.said
    assert recording.share(first, "hold") > 0.5


@pytest.mark.parametrize("mode", ["spin", "leader"])
def test_binary_that_was_deleted_while_it_runs(tmp_path, lives, mode):
    copy = tmp_path / "copy"
    shutil.copy(lives, copy)
    with running(copy, mode, 5) as process:
        wait_for_image(process.pid, "copy")
        time.sleep(0.4)
        copy.unlink()
        recording = follow(tmp_path, process.pid)

    assert_whole(recording, "spin_here")
    assert len(recording.of("copy")) == len(recording.stacks)


def test_binary_that_was_replaced_while_it_runs(tmp_path, lives):
    """The new file has other functions at the same addresses: none of them may show."""
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copy(lives, copy)
    shutil.copy(shutil.which("true"), other)
    with running(copy, "spin", 5) as process:
        wait_for_image(process.pid, "copy")
        other.rename(copy)
        recording = follow(tmp_path, process.pid)

    assert_whole(recording, "_start", *CHAIN)


@pytest.mark.needs("tool:unshare")
def test_process_in_a_mount_namespace_of_its_own(tmp_path, lives):
    """At the same path, but for it alone, lies another file."""
    hidden = tmp_path / "mnt"
    hidden.mkdir()
    shutil.copy(shutil.which("true"), hidden / "prog")
    into = f"mount -t tmpfs none {hidden} && cp {lives} {hidden}/prog && exec {hidden}/prog spin 5"
    with running("unshare", "-m", "sh", "-c", into) as process:
        wait_for_image(process.pid, "prog")
        recording = follow(tmp_path, process.pid)

    assert_whole(recording, "_start", *CHAIN)


@pytest.mark.needs("tool:unshare")
@pytest.mark.parametrize("is_command", [True, False])
def test_process_in_a_pid_namespace_of_its_own(tmp_path, lives, is_command):
    """It thinks it is number 1: what counts is what the first namespace calls it."""
    command = ("unshare", "-p", "-f", "--kill-child", str(lives), "spin")
    if is_command:
        recording = record(tmp_path, "-F", "199", "--", *command, "0.5")
    else:
        with running(*command, 5) as process:
            wait_for_image(process.pid, "unshare")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_until(lambda: children.read_text().strip(), "the child")
            child = int(children.read_text().split()[0])
            wait_for_image(child, "lives")
            recording = follow(tmp_path, child)

    assert_whole(recording, "_start", *CHAIN)


@contextmanager
def profiling(**options):
    """A profiler in this process, stopped and closed at the end."""
    profiler = Profiler(Options(**options))
    profiler.start()
    try:
        yield profiler
        profiler.stop()
        profiler.lost = profiler.losses().lost_samples
    finally:
        profiler.close()


@contextmanager
def max_map_count(least):
    path = Path("/proc/sys/vm/max_map_count")
    before = path.read_text()
    try:
        path.write_text(str(max(int(before), least)))
    except OSError:
        pytest.skip("needs vm.max_map_count")
    try:
        yield
    finally:
        path.write_text(before)


def test_half_a_million_mappings_are_not_read_again_and_again(lives):
    """They are made while we look on, so events are lost; then the process runs on."""
    with max_map_count(600_000), running(lives, "maps", 60, 500_000) as process:
        wait_for_image(process.pid, "lives")
        with profiling(frequency_hz=199, pids=(process.pid,)) as profiler:
            time.sleep(8)
            scans = profiler.table.entries[process.pid].scans

    tally = profiler.collector.tally
    assert scans <= 4
    assert profiler.processes.cpu_ns < 5_000_000_000
    assert tally.user > 500
    assert tally.complete > 0.97 * tally.user


def test_process_that_maps_and_unmaps_code_all_the_while(lives):
    with running(lives, "churn", 30) as process:
        wait_for_image(process.pid, "lives")
        with profiling(frequency_hz=199, pids=(process.pid,)) as profiler:
            time.sleep(2)
            scans = profiler.table.entries[process.pid].scans

    assert scans <= 3
    assert profiler.collector.tally.complete > 0.97 * profiler.collector.tally.user


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_storm_of_processes_leaves_nothing_behind():
    """2,000 short lives: no map entry, no table entry, no descriptor stays; samples do."""
    script = "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done; read x"
    pipes = {"stdin": subprocess.PIPE}
    shell = subprocess.Popen(["sh", "-c", "read x;" + script], **pipes)
    with shell, profiling(frequency_hz=499, pids=(shell.pid,)) as profiler:
        time.sleep(0.5)
        open_before = open_files()
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        wait_until(lambda: profiler.collector.tally_now().samples > 300, "samples")
        wait_until(lambda: len(profiler.table.entries) == 1, "the end of the storm")
        targets = HashMap.of(profiler.bpf, "targets").items()
        processes = HashMap.of(profiler.bpf, "processes").items()
        spaces = {key[4:8] for key, _ in LpmTrie.of(profiler.bpf, "mappings").items()}
        open_after = open_files()
        shell.stdin.write(b"\n")
        shell.stdin.flush()

    assert len(targets) == 2  # we ourselves, and the shell
    assert len(processes) <= 1
    assert len(spaces) <= 1
    assert open_after - open_before < 10
    tally, lost = profiler.collector.tally, profiler.lost
    assert lost <= 0.01 * tally.samples
    assert tally.complete >= 0.95 * tally.user


def test_profiler_that_is_stopped_for_two_seconds_goes_on(tmp_path, lives):
    output = tmp_path / "stacks.folded"
    command = [OTELAGENT, "record", "--force", "-F", "199", "-o", output, "--", lives, "spin", "4"]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as agent:
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")

        def has_begun():
            pids = children.read_text().split()
            return any(procfs.read_comm(int(pid)) == "lives" for pid in pids)

        wait_until(has_begun, "the command")
        time.sleep(0.5)
        agent.send_signal(signal.SIGSTOP)
        time.sleep(2)
        agent.send_signal(signal.SIGCONT)
        said = agent.communicate(timeout=30)[1]

    assert agent.returncode == 0, said
    assert " 0 lost" in said
    assert sum(int(line.rpartition(" ")[2]) for line in output.read_text().splitlines()) > 600


def test_code_without_rows_is_looked_at_in_its_file_where_the_process_is_gone(tmp_path):
    """Frame pointers are followed by what the code does: the profiler gets no CPU while it runs."""
    flags = ("-O1", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-pthread")
    program, output = build_c(tmp_path, "lives", *flags), tmp_path / "stacks.folded"
    script = 'read line; "$0" spin 0.5'
    command = [OTELAGENT, "record", "-F", "199", "-o", output, "--", "sh", "-c", script, program]
    pipes = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*map(str, command)], **pipes, text=True) as recorder:
        children = Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children")

        def shell():
            pids = children.read_text().split()
            return next((int(pid) for pid in pids if procfs.read_comm(int(pid)) == "sh"), 0)

        wait_until(shell, "the shell")
        time.sleep(0.2)
        recorder.send_signal(signal.SIGSTOP)
        pid = shell()
        recorder.stdin.write("\n")
        recorder.stdin.close()
        wait_until(lambda: procfs.has_ended(pid), "the end of what it ran")
        recorder.send_signal(signal.SIGCONT)
        recording = read_recording(output, recorder.stderr.read())

    assert recording.user_stacks > 50, recording.said
    assert recording.share("_start", "main", "spin_here") > 0.95, recording.said


CALLER = """
import ctypes, sys, time
spin = ctypes.CDLL(sys.argv[1]).spin
end = time.monotonic() + 8
while time.monotonic() < end: spin()
"""


@contextmanager
def calling(tmp_path, size=0):
    """A process that spins in a library which lies: (process, path of the library)."""
    library = tmp_path / "liblie.so"
    source = "void spin(void) { for (volatile int i = 0; i < 300000; i++); }"
    build = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), "-xc", "-"]
    subprocess.run(build, input=source, text=True, check=True)
    if size:
        os.truncate(library, size)
    with running(sys.executable, "-c", CALLER, library) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        wait_until(lambda: "liblie" in maps.read_text(), "the library")
        yield process, library


def test_elf_headers_that_are_written_over_while_the_program_runs(tmp_path):
    with calling(tmp_path) as (process, library):
        with library.open("r+b") as stream:
            for field in (0x20, 0x28, 0x36, 0x38, 0x3C):  # tables of segments and sections
                stream.seek(field)
                stream.write(b"\xff" * 2)
        recording = follow(tmp_path, process.pid)

    assert recording.samples > 40


def test_library_of_10_gb(tmp_path):
    with calling(tmp_path, 10 << 30) as (process, _):
        begun = time.monotonic()
        recording = follow(tmp_path, process.pid)

    assert time.monotonic() - begun < 15
    assert recording.share("spin") > 0.8


def test_library_that_is_cut_off_while_it_is_looked_at(tmp_path):
    output = tmp_path / "x"
    with calling(tmp_path) as (process, library):
        command = [OTELAGENT, "record", "-d", "1", "-f", "collapsed", "-o", output]
        with subprocess.Popen([*map(str, command), "-p", str(process.pid)]) as agent:
            time.sleep(0.5)
            os.truncate(library, 100)
            assert agent.wait(30) == 0

    assert output.exists()
