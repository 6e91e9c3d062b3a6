# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A held command begins when it is told to, and its end is told as a shell does."""

import os
import signal
import sys
from threading import Timer

import pytest

from otelagent.host.command import CommandFailed, HeldCommand

PYTHON = (sys.executable, "-S", "-c")


def status_of(*argv):
    command = HeldCommand.fork(argv)
    command.release()
    command.reap(wait=True)
    return command.exit_status


@pytest.mark.parametrize(
    ("code", "status"),
    [("pass", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)],
)
def test_a_status_is_told_as_a_shell_does(code, status):
    assert status_of(*PYTHON, code) == status


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("no-such-command", "no-such-command: command not found", 127),
        ("/no/such/file", "/no/such/file: No such file or directory", 127),
        ("/", "/: Permission denied", 126),
    ],
)
def test_what_cannot_be_run_is_told(name, text, status):
    command = HeldCommand.fork([name])

    with pytest.raises(CommandFailed) as caught:
        command.release()

    assert (str(caught.value), caught.value.exit_status) == (text, status)
    assert command.status is not None


def test_a_script_without_a_first_line_is_run_by_sh(tmp_path):
    script = tmp_path / "script"
    script.write_text('test "$1" = "a b" && exit 9\n')
    script.chmod(0o755)

    assert status_of(str(script), "a b") == 9


def test_a_held_command_ends_when_nobody_can_release_it():
    command = HeldCommand.fork([*PYTHON, "pass"])
    os.close(command._release_fd)

    assert command.reap(wait=True)
    assert command.exit_status == 125


def test_an_abandoned_command_is_reaped():
    command = HeldCommand.fork([*PYTHON, "pass"])

    command.abandon()

    with pytest.raises(ProcessLookupError):
        os.kill(command.pid, 0)


def test_no_signal_is_blocked_or_ignored_in_it():
    """Python ignores SIGPIPE and SIGXFSZ, and the front blocks what it waits for."""
    # By no shell: one that waits for a child has all signals blocked itself.
    blocked = ("grep", "-Eq", r"^SigBlk:\s0+$", "/proc/self/status")
    ignored = ("grep", "-Eq", r"^SigIgn:\s.*1000$", "/proc/self/status")
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGINT})
    try:
        assert status_of(*blocked) == 0
        assert status_of(*ignored) == 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_a_command_that_does_not_end_is_killed():
    ready, told = os.pipe()
    os.set_inheritable(told, True)
    code = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN);"
        f"os.write({told}, b'1'); time.sleep(60)"
    )
    command = HeldCommand.fork([*PYTHON, code])
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        command.release()
        os.read(ready, 1)

        assert command.end(signal.SIGTERM, 0.1) == "had not ended within 0.1 s"
        assert command.exit_status == 137
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        os.close(ready)
        os.close(told)


@pytest.mark.parametrize(("after", "why"), [(0, ""), (0.6, "had not ended when SIGINT came")])
def test_a_second_signal_ends_the_wait_unless_it_came_with_the_first(after, why):
    ready, told = os.pipe()
    os.set_inheritable(told, True)
    code = (
        "import os, signal, time; signal.signal(15, lambda *_: (time.sleep(0.8), os._exit(3)));"
        f"os.write({told}, b'1'); time.sleep(60)"
    )
    command = HeldCommand.fork([*PYTHON, code])
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGINT})
    again = Timer(after, os.kill, (os.getpid(), signal.SIGINT))
    try:
        command.release()
        os.read(ready, 1)
        again.start()

        assert command.end(signal.SIGTERM, 5) == why
        assert command.exit_status == (137 if why else 3)
    finally:
        again.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        os.close(ready)
        os.close(told)
