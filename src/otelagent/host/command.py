# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A command that is held until it may begin.

The child exists, with its pid, while the profiler is loaded; it execs the
command when it is released, so its first instruction is seen.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Sequence


class CommandFailed(AgentError):  # noqa: N818 (named for the fate)
    """The command could not be started: exit 127 (not found) or 126."""

    def __init__(self, command: str, number: int) -> None:
        is_missing = number == errno.ENOENT
        named = is_missing and "/" not in command
        super().__init__(f"{command}: {'command not found' if named else os.strerror(number)}")
        self.exit_status = 127 if is_missing else 126


_FROM_KERNEL = 0x80
"""si_code SI_KERNEL (include/uapi/asm-generic/siginfo.h): a terminal sent it to its whole group."""
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""Signals that ask us to end; the front blocks them and looks at them itself."""


_BURST_SECONDS = 0.5
"""What comes so soon after another signal is the same wish: of `timeout`, or of a service manager,
that signals a process and its group; it ends no command that is just ending."""


def is_from_terminal(info: signal.struct_siginfo) -> bool:
    """Tell whether a terminal sent a signal, or went away, rather than somebody's kill."""
    return info.si_code == _FROM_KERNEL


@dataclass(slots=True)
class HeldCommand:
    """A child that waits on a pipe before it execs `argv`."""

    pid: int
    argv: tuple[str, ...]
    _release_fd: int
    _error_fd: int
    status: int | None = None

    @classmethod
    def fork(cls, argv: Sequence[str], *, is_silent: bool = False) -> HeldCommand:
        """Make the child; call it before any thread is started.

        Args:
            argv: The program, looked for on PATH, and its arguments.
            is_silent: Keep it off the terminal: what it reads or writes there is nothing.
        """
        wait_read, wait_write = os.pipe()
        error_read, error_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            # Else it would wait for itself when we end without a word.
            os.close(wait_write)
            os.close(error_read)
            _child(tuple(argv), wait_read, error_write, is_silent)
        os.close(wait_read)
        os.close(error_write)
        return cls(pid, tuple(argv), wait_write, error_read)

    def release(self) -> None:
        """Let it exec.

        Raises:
            CommandFailed: It could not; the child has ended.
        """
        with contextlib.suppress(BrokenPipeError):  # it was killed meanwhile: reap() tells
            os.write(self._release_fd, b"1")
        os.close(self._release_fd)
        self._release_fd = -1
        told = os.read(self._error_fd, 16)
        os.close(self._error_fd)
        self._error_fd = -1
        if told:
            self.reap(wait=True)
            raise CommandFailed(self.argv[0], int(told))

    def abandon(self) -> None:
        """End and reap a child, however far it has come; for when something else failed."""
        for fd in (self._release_fd, self._error_fd):
            if fd >= 0:
                os.close(fd)
        is_held = self._release_fd >= 0
        self._release_fd = self._error_fd = -1
        self.end(signal.SIGKILL if is_held else signal.SIGTERM)

    def end(self, first: signal.Signals | None, grace_seconds: float = 5) -> str:
        """Signal it, wait, then kill it; says why it was killed, and nothing if it was not.

        Args:
            first: What is sent first; None if it got a signal already.
            grace_seconds: How long to wait. One of our signals that comes meanwhile
                (and that is blocked) ends the wait.
        """
        if first is not None:
            self.send(first)
        began = time.monotonic()
        while not self.reap():
            left = began + grace_seconds - time.monotonic()
            info = signal.sigtimedwait(ENDING | {signal.SIGCHLD}, min(max(left, 0), 0.1))
            is_again = info is not None and info.si_signo in ENDING
            if is_again and time.monotonic() - began < _BURST_SECONDS:
                continue
            if is_again or left <= 0:
                self.send(signal.SIGKILL)
                self.reap(wait=True)
                by = f"when {signal.Signals(info.si_signo).name} came" if info and is_again else ""
                return f"had not ended {by or f'within {grace_seconds:g} s'}"
        return ""

    def reap(self, *, wait: bool = False) -> bool:
        """Take its exit status if it has ended; True then."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.status is None:
            os.kill(self.pid, number)

    @property
    def group(self) -> int:
        """Its process group; 0 if it has ended."""
        try:
            return os.getpgid(self.pid) if self.status is None else 0
        except ProcessLookupError:
            return 0

    @property
    def exit_status(self) -> int:
        """Its status as a shell tells it: 128+n if signal n ended it."""
        status = self.status or 0
        return 128 - status if status < 0 else status


def _child(argv: tuple[str, ...], wait_fd: int, error_fd: int, is_silent: bool) -> None:
    """Wait, exec; never returns."""
    try:
        if not os.read(wait_fd, 1):
            os._exit(125)  # the profiler gave up
        if is_silent:
            _leave_terminal()
        _restore_signals()
        _exec(argv)
    except OSError as err:
        number = err.errno or errno.ENOEXEC
        os.write(error_fd, str(number).encode())
    finally:
        os._exit(127)


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        if os.isatty(fd):
            os.dup2(null, fd)


def _restore_signals() -> None:
    """Undo what the Python interpreter and the profiler changed; what was ignored stays so."""
    # A Ctrl-C that is pending must end the child, not raise KeyboardInterrupt in it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _exec(argv: tuple[str, ...]) -> None:
    """Become the program; a script without `#!` is run by sh, as execvp(3) does it."""
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is what we want)
    except OSError as err:
        path = shutil.which(argv[0])
        if err.errno != errno.ENOEXEC or path is None:
            raise
        os.execv("/bin/sh", ("/bin/sh", path, *argv[1:]))  # noqa: S606
