# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""One run of the profiler with what may end it: what `record` and `top` share.

The main thread alone sees signals: they are blocked before any thread is
started, and taken in `wait`.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Self

from otelagent.cli.request import make_options
from otelagent.formats.durations import parse_duration
from otelagent.host import procfs
from otelagent.host.command import ENDING, HeldCommand, is_from_terminal

if TYPE_CHECKING:
    from otelagent.cli.request import Request
    from otelagent.cli.talk import Talk
    from otelagent.profiler import Profiler

GRACE_SECONDS = 5.0
"""How long a command may go on after the signal that asked it to end."""


class Session:
    """A profiler that runs, and the command that it may hold.

    Attributes:
        status: The exit status that the run earns, by how it ended.
    """

    profiler: Profiler

    def __init__(self, request: Request, talk: Talk, *, is_silent: bool = False) -> None:
        self._request = request
        self._talk = talk
        self._is_silent = is_silent
        self.seconds = parse_duration(request.duration) if request.duration else None
        self.command: HeldCommand | None = None
        self.status = 0
        self._is_running = False
        self._refreshed = 0.0

    def __enter__(self) -> Self:
        """Hold the command, load and attach.

        Raises:
            AgentError: As it says; the command has ended then.
        """
        self._watched = set(ENDING | {signal.SIGCHLD})
        signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            self._watched.remove(signal.SIGHUP)  # nohup
        try:
            if argv := self._request.command:
                self.command = HeldCommand.fork(argv, is_silent=self._is_silent)
            options = make_options(self._request, self._talk, self.command)
            from otelagent._native import lib  # noqa: PLC0415 (the child is forked before)
            from otelagent.profiler import Profiler  # noqa: PLC0415

            lib.oa_bound_heap()
            self.profiler = Profiler(options)
            self.profiler.start()
            self._is_running = True
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self.command:
            self.command.abandon()
        if self._is_running:
            self.stop()

    def release(self) -> None:
        """Let the command begin; the duration counts from now.

        Raises:
            CommandFailed: It cannot be run.
        """
        if self.command:
            self.command.release()
        self.began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since `release`."""
        return time.monotonic() - self.began

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; True when the run is over."""
        left = seconds if self.seconds is None else min(seconds, self.seconds - self.elapsed)
        info = signal.sigtimedwait(self._watched, max(left, 0))
        if info and info.si_signo in ENDING:
            return self.interrupted(info)
        if self.command and self.command.reap():
            self.status = self.command.exit_status
            return True
        if self.seconds is not None and self.elapsed >= self.seconds:
            self._end_command(signal.SIGTERM)
            return True
        return self._has_lost_its_subject()

    def _has_lost_its_subject(self) -> bool:
        """Look at what need not be looked at each time: CPUs, targets, our own threads."""
        if self.elapsed - self._refreshed < 1 and self._refreshed:
            return False
        self._refreshed = self.elapsed
        self.profiler.refresh()
        if self._request.pids and all(map(procfs.has_ended, self._request.pids)):
            self._talk.say("nothing is left to sample: all that was asked for has ended")
            return True
        return self.profiler.has_failed

    def interrupted(self, info: signal.struct_siginfo) -> bool:
        """Pass the signal on to the command, once: a terminal sends it to the command too."""
        if self.command is None:
            return True
        number = signal.Signals(info.si_signo)
        came_too = is_from_terminal(info) and self.command.group == os.getpgrp()
        self._end_command(None if came_too else number)
        self.status = 128 + number
        return True

    def _end_command(self, number: signal.Signals | None) -> None:
        """Sample on until the command has ended."""
        if self.command and (why := self.command.end(number, GRACE_SECONDS)):
            self._talk.say(f"{self.command.argv[0]} {why}, and was killed")

    def quit(self) -> None:
        """End the run because the user has seen enough."""
        self._end_command(signal.SIGTERM)

    def stop(self) -> Exception | None:
        """Stop sampling, take what is on its way; give what a thread of the profiler died of.

        What it had collected is still good, and the profiler stays open for names.
        """
        self._is_running = False
        try:
            self.profiler.stop()
        except Exception as err:  # noqa: BLE001 (the front tells it once the rest is written)
            return err
        return None
