# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Exit statuses of `record`, and who gets which signal."""

import os
import signal
import subprocess

import pytest

from integration.runs import OTELAGENT, Running, Terminal, otelagent, wait_until, workload

TO_NULL = ("-f", "collapsed", "-o", "/dev/null")


def test_the_status_of_the_command_is_ours():
    status, _, said = otelagent("record", *TO_NULL, "--", *workload("spin.py", 0.1, 7))

    assert status == 7
    assert said.splitlines()[-1].startswith("otelagent: wrote /dev/null: ")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_that_ended_the_command_is_told_as_a_shell_does(number):
    code = f"import os; os.kill(os.getpid(), {int(number)})"

    assert otelagent("record", *TO_NULL, "--", "python3", "-c", code)[0] == 128 + number


@pytest.mark.needs("tool:unshare")
def test_a_pid_namespace_of_our_own_is_refused_in_one_line_with_the_way_out():
    """Processes have other numbers there than in the kernel's programs."""
    command = [*OTELAGENT, "record", *TO_NULL, "--", "true"]
    done = subprocess.run(
        ["unshare", "-pf", "--mount-proc", *command], capture_output=True, text=True, check=False
    )

    assert done.returncode == 69
    assert "pid namespace of its own" in done.stderr
    assert "--pid=host" in done.stderr


def test_a_command_that_is_not_found_is_127(tmp_path):
    output = tmp_path / "x.folded"

    status, _, said = otelagent("record", "-o", output, "--", "no-such-command")

    assert status == 127
    assert said.splitlines()[-1] == "otelagent: no-such-command: command not found"
    assert not output.exists()


def test_a_file_that_cannot_be_run_is_126(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")

    status, _, said = otelagent("record", *TO_NULL, "--", script)

    assert status == 126
    assert "Permission denied" in said


def test_the_duration_ends_the_command_and_is_no_failure(tmp_path):
    note = tmp_path / "pid"
    script = f"echo $$ >{note}; exec sleep 100"

    status, _, said = otelagent("record", *TO_NULL, "-d", "2", "--", "sh", "-c", script)

    assert status == 0, said
    assert "wrote /dev/null" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_command_that_ignores_the_end_is_killed():
    script = "trap '' TERM; while :; do :; done"

    status, _, said = otelagent("record", *TO_NULL, "-d", "0.5", "--", "sh", "-c", script)

    assert status == 0
    assert "otelagent: sh had not ended within 5 s, and was killed" in said


def test_an_interrupt_for_us_alone_reaches_the_command_once(tmp_path):
    count = tmp_path / "count"
    with Running("record", *TO_NULL, "--", *workload("interrupted.py", count)) as run:
        wait_until(lambda: count.exists() and count.read_text() == "ready\n")
        run.process.send_signal(signal.SIGINT)

        assert run.end() == 130
    assert count.read_text() == "ready\n1\n"
    assert "wrote /dev/null" in run.said


def test_signals_at_once_are_one_wish(tmp_path):
    """As `timeout` sends them: the command ends in its own time, and is not killed."""
    note = tmp_path / "note"
    script = f"trap 'echo asked >>{note}; sleep 0.2; echo ended >>{note}; exit 3' INT; echo >{note}"
    with Running("record", *TO_NULL, "--", "sh", "-c", f"{script}; while :; do :; done") as run:
        wait_until(lambda: note.exists() and note.read_text() == "\n")
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGTERM)

        assert run.end() == 130
    assert note.read_text().split() == ["asked", "ended"]
    assert "killed" not in run.said
    assert "wrote /dev/null" in run.said


def test_ctrl_c_on_a_terminal_reaches_the_command_once(tmp_path):
    count = tmp_path / "count"
    with Terminal("record", *TO_NULL, "--", *workload("interrupted.py", count)) as run:
        wait_until(lambda: count.exists() and count.read_text() == "ready\n")
        run.press("\x03")

        assert run.end() == 130
    assert count.read_text() == "ready\n1\n"
    assert "wrote /dev/null" in run.text


def test_ctrl_c_reaches_a_command_that_left_our_group(tmp_path):
    count = tmp_path / "count"
    inner = (
        "python3",
        "-c",
        "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])",
    )
    with Terminal("record", *TO_NULL, "--", *inner, *workload("interrupted.py", count)) as run:
        wait_until(lambda: count.exists() and count.read_text() == "ready\n")
        run.press("\x03")

        assert run.end() == 130
    assert count.read_text() == "ready\n1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_without_a_command_a_signal_is_a_normal_end(number):
    with Running("record", *TO_NULL, "-p", os.getpid()) as run:
        run.wait_for("sampling process")
        run.process.send_signal(number)

        assert run.end() == 0
    assert "wrote /dev/null" in run.said


def test_a_termination_ends_the_command_too():
    with Running("record", *TO_NULL, "--", "sleep", "100") as run:
        run.wait_for("sampling sleep")
        run.process.send_signal(signal.SIGTERM)

        assert run.end() == 128 + signal.SIGTERM


def test_the_held_command_dies_with_us():
    """A command that was never released does not stay behind."""
    script = 'echo "ran" >&2'
    with Running("record", *TO_NULL, "--btf-path", "/dev/null", "--", "sh", "-c", script) as run:
        assert run.end() in {1, 2, 69}
    assert "ran" not in run.said.splitlines()
    assert "otelagent: " in run.said


def test_the_status_line_tells_how_it_goes():
    with Terminal("record", *TO_NULL, "--", *workload("spin.py", 1.5)) as run:
        assert run.end() == 0
    assert " samples  0 lost  " in run.text
    assert " short stacks" in run.text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_colours_and_the_status_line_can_be_switched_off(environment, tmp_path):
    arguments = ("record", "-o", tmp_path / "x.html", "--", *workload("spin.py", 1))
    with Terminal(*arguments, **environment) as run:
        assert run.end() == 0
    assert "\x1b[3" not in run.raw
    if "TERM" in environment:
        assert "\x1b" not in run.raw
