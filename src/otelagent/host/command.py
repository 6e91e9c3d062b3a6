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
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Sequence


class CommandFailed(AgentError):  # noqa: N818 (named for the fate)
    """The command could not be started: exit 127 (not found) or 126."""

    def __init__(self, command: str, number: int) -> None:
        super().__init__(f"{command}: {os.strerror(number)}")
        self.exit_status = 127 if number == errno.ENOENT else 126


@dataclass(slots=True)
class HeldCommand:
    """A child that waits on a pipe before it execs `argv`."""

    pid: int
    argv: tuple[str, ...]
    _release_fd: int
    _error_fd: int
    status: int | None = None

    @classmethod
    def fork(cls, argv: Sequence[str]) -> HeldCommand:
        """Make the child; call it before any thread is started."""
        wait_read, wait_write = os.pipe()
        error_read, error_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(tuple(argv), wait_read, error_write)
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
    def exit_status(self) -> int:
        """Its status as a shell tells it: 128+n if signal n ended it."""
        status = self.status or 0
        return 128 - status if status < 0 else status


def _child(argv: tuple[str, ...], wait_fd: int, error_fd: int) -> None:
    """Wait, exec; never returns."""
    try:
        if not os.read(wait_fd, 1):
            os._exit(125)  # the profiler gave up
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is what we want)
    except OSError as err:
        number = err.errno or errno.ENOEXEC
        os.write(error_fd, str(number).encode())
    finally:
        os._exit(127)
