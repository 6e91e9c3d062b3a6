# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where `record` writes, and that nothing is lost where it cannot."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from integration.runs import Running, otelagent, wait_until, workload

SPIN = workload("spin.py", 0.3)
KEPT = re.compile(r"the profile was kept in (\S+)")


def kept_in(said):
    """Read and remove what was kept elsewhere."""
    path = Path(KEPT.search(said)[1])
    text = path.read_text()
    path.unlink()
    return text


@pytest.fixture
def open_directory():
    """A directory that every user can reach and write."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        yield Path(place)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


def test_without_an_output_there_is_an_html_file_and_a_table(tmp_path):
    status, out, said = otelagent("record", "--", *SPIN, cwd=tmp_path)

    (made,) = tmp_path.iterdir()
    assert status == 0
    assert re.fullmatch(r"otelagent-.*-\d{8}T\d{6}Z\.html", made.name)
    assert made.read_bytes().startswith(b"<!DOCTYPE html>")
    assert "leaf" in out
    assert f"wrote {made.name}: " in said.splitlines()[-1]


def test_standard_output_holds_the_profile_alone():
    status, out, said = otelagent("record", "-f", "collapsed", "-o", "-", "--", *SPIN)

    assert status == 0
    assert all(re.fullmatch(r".+ \d+", line) for line in out.splitlines())
    assert ";leaf" in out
    assert "wrote standard output: " in said


def test_quiet_says_nothing(tmp_path):
    status, out, said = otelagent("record", "-q", "-o", tmp_path / "x.html", "--", *SPIN)

    assert (status, out, said) == (0, "", "")


def test_an_existing_file_is_overwritten_only_by_force(tmp_path):
    output = tmp_path / "x.folded"
    output.write_text("precious")

    status, _, said = otelagent("record", "-o", output, "--", "touch", tmp_path / "ran")
    forced, _, _ = otelagent("record", "--force", "-o", output, "--", *SPIN)

    assert (status, forced) == (1, 0)
    assert said.startswith(f"otelagent: {output} exists")
    assert "--force" in said
    assert not (tmp_path / "ran").exists()
    assert "leaf" in output.read_text()


@pytest.mark.parametrize("place", ["/no/such/directory/x.html", "/proc/x.html", "/"])
def test_an_output_that_cannot_be_is_refused_before_anything_runs(place, tmp_path):
    run = ("record", "-f", "html", "-o", place, "--", "touch", tmp_path / "ran")

    status, _, said = otelagent(*run)

    assert status == 1
    assert len(said.splitlines()) <= 2
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_keeps_the_profile_elsewhere(small_disk):
    (small_disk / "filler").write_bytes(bytes(16 << 10))
    output = small_disk / "x.folded"

    status, _, said = otelagent("record", "-o", output, "--", *SPIN)

    assert status == 1
    assert "No space left on device" in said
    assert ";leaf" in kept_in(said)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_full_device_keeps_the_profile_elsewhere():
    status, _, said = otelagent("record", "-f", "collapsed", "-o", "/dev/full", "--", *SPIN)

    assert status == 1
    assert ";leaf" in kept_in(said)
    assert Path("/dev/full").is_char_device()


def test_a_pipe_is_written_into(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()

    status, _, _ = otelagent("record", "-f", "collapsed", "-o", fifo, "--", *SPIN)

    reader.join()
    assert status == 0
    assert ";leaf" in read[0]
    assert fifo.is_fifo()


def test_a_second_interrupt_while_writing_keeps_the_profile(tmp_path):
    """Nobody reads the pipe, so writing would wait for ever."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Running("record", "-f", "collapsed", "-o", fifo, "--", *SPIN) as run:
        run.wait_for("sampling")
        wait_until(lambda: is_waiting_for_reader(run.process.pid), "the write")
        run.process.send_signal(signal.SIGINT)
        run.wait_for("still writing")
        run.process.send_signal(signal.SIGINT)

        assert run.end() == 1
    assert "interrupted while writing" in run.said
    assert ";leaf" in kept_in(run.said)


def is_waiting_for_reader(pid):
    """Tell whether the main thread opens a pipe that nobody reads (fs/pipe.c)."""
    return Path(f"/proc/{pid}/wchan").read_text() in {"wait_for_partner", "fifo_open"}


def test_a_reader_that_went_away_makes_no_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with Running("record", "-f", "collapsed", "-o", "-", "--", *SPIN, stdout=write) as run:
        os.close(write)

        assert run.end() == 1
    assert ";leaf" in kept_in(run.said)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing_only_silences(redirection, tmp_path):
    output = tmp_path / "x.folded"
    command = f'exec "$@" {redirection}'
    record = [sys.executable, "-m", "otelagent", "record", "-o", output, "--", *SPIN]

    done = subprocess.run(["sh", "-c", command, "sh", *record], timeout=30, check=False)

    assert done.returncode == 0
    assert ";leaf" in output.read_text()


def test_under_sudo_a_new_file_belongs_to_the_caller(tmp_path):
    output = tmp_path / "x.folded"
    environment = {**os.environ, "SUDO_UID": "12345", "SUDO_GID": "23456"}

    otelagent("record", "-o", output, "--", *SPIN, env=environment)

    assert (output.stat().st_uid, output.stat().st_gid) == (12345, 23456)


@pytest.mark.needs("tool:setpriv")
def test_without_privilege_the_capabilities_and_a_way_to_them_are_named(tmp_path):
    tmp_path.chmod(0o777)
    drop = [shutil.which("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    record = [sys.executable, "-m", "otelagent", "record", "-o", tmp_path / "x.html", "--", "true"]

    done = subprocess.run([*drop, *record], capture_output=True, text=True, check=False)

    assert done.returncode == 77, done.stderr
    assert all(name in done.stderr for name in ("CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"))
    assert "sudo" in done.stderr


@pytest.mark.needs("tool:setpriv")
def test_capabilities_are_enough_and_hidden_kernel_addresses_are_told(open_directory):
    names = "+bpf,+perfmon,+sys_ptrace"
    drop = [shutil.which("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    drop += ["--inh-caps", names, "--ambient-caps", names]
    first = subprocess.run(
        [*drop, "head", "-n1", "/proc/kallsyms"], capture_output=True, text=True, check=False
    )
    if first.returncode:
        pytest.skip("needs a setpriv that knows CAP_BPF")
    output = open_directory / "x.folded"
    # Reading makes kernel frames: an address of theirs is looked up, hidden or not.
    command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=20000"]
    record = [sys.executable, "-m", "otelagent", "record", "-o", output, "--", *command]

    done = subprocess.run([*drop, *record], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert output.read_text()
    is_hidden = set(first.stdout.split()[0]) == {"0"}
    assert ("addresses are hidden" in done.stderr) == is_hidden


def test_a_full_ring_is_told_as_number_and_share():
    code = (
        "from dataclasses import replace; import otelagent.sampling as s; of = s.wish_of;"
        "s.wish_of = lambda options: replace(of(options), ring_bytes=4096);"
        "from otelagent.cli import main; main()"
    )
    record = ("record", "-F", 10_000, "-f", "collapsed", "-o", "/dev/null", "--")
    program = (sys.executable, "-c", code)
    with Running(*record, *workload("spin.py", 2), program=program) as run:
        assert run.end() == 0
    assert re.search(r" [1-9]\d* lost \(\d+\.\d\d %\)", run.said.splitlines()[-1])
    assert "samples were lost: a lower frequency" in run.said
