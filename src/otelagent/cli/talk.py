# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What commands say on stderr; a stderr that is closed or broken silences them, no more."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otelagent.errors import OutputError
from otelagent.host.command import ENDING
from otelagent.profile.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import TextIO


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Talk:
    """What is said on stderr: lines, and on a terminal a status line that is rewritten."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = not quiet and is_terminal(sys.stderr)
        self._shown = False
        self._held: list[str] | None = None

    @property
    def is_live(self) -> bool:
        """Whether a status line is shown."""
        return self._live

    def say(self, text: str) -> None:
        """Write a line; names in it cannot steer the terminal."""
        if self._quiet:
            return
        if self._held is not None:
            self._held.append(text)
        else:
            self._write(f"otelagent: {printable(text)}\n")

    def status(self, text: str) -> None:
        """Rewrite the status line."""
        if self._live:
            width = shutil.get_terminal_size().columns
            self._write(text[: width - 1], end=False)

    def _write(self, text: str, *, end: bool = True) -> None:
        before = "\r\x1b[K" if self._shown or not end else ""
        self._shown = not end
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(before + text)
            sys.stderr.flush()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep what is said and logged until a screen that fills the terminal is gone."""
        logged = io.StringIO()
        handlers = [
            handler
            for handler in logging.getLogger("otelagent").handlers
            if isinstance(handler, logging.StreamHandler)
        ]
        old = [handler.setStream(logged) for handler in handlers]
        self._held = []
        try:
            yield
        finally:
            said, self._held = self._held, None
            for handler, stream in zip(handlers, old, strict=True):
                handler.setStream(stream)
            if logged.getvalue():
                self._write(logged.getvalue())
            for text in said:
                self.say(text)

    @contextmanager
    def patience(self, work: str) -> Iterator[None]:
        """While something is written, let a second Ctrl-C give up, and only the second.

        Raises:
            OutputError: Inside, at the second signal.
        """
        count = 0

        def on_signal(number: int, _frame: FrameType | None) -> None:
            nonlocal count
            count += 1
            if count > 1:
                raise OutputError(f"interrupted while {work} ({signal.Signals(number).name})")
            self.say(f"still {work}; once more gives up")

        old = {number: signal.signal(number, on_signal) for number in ENDING}
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in old.items():
                signal.signal(number, handler)
