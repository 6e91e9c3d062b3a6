# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keys as they are pressed: a terminal without line editing and echo, put right afterwards.

Ctrl-C stays a signal. Ctrl-Z is a key, since the screen must be left before we stop.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import time
import tty
from typing import Self

SUSPEND = "\x1a"
ENTER = "\n"
ESCAPE = "\x1b"
BACKSPACE = "\x7f"
_NAMED = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\r": ENTER,
    "\b": BACKSPACE,
}
_KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)?|[^\x1b]", re.DOTALL)


def split_keys(text: str) -> list[str]:
    """Take apart what a terminal sent; a key without a name here stays as it came."""
    return [_NAMED.get(key, key) for key in _KEY.findall(text)]


class Keyboard:
    """The terminal that we were started from; without one there are never any keys."""

    def __init__(self) -> None:
        self._fd = -1
        self._is_ours = False
        if sys.stdin is not None and sys.stdin.isatty():
            self._fd = sys.stdin.fileno()
            return
        with contextlib.suppress(OSError):
            self._fd = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
            self._is_ours = True

    def __enter__(self) -> Self:
        if self._fd >= 0:
            self._saved = termios.tcgetattr(self._fd)
            self.grab()
        return self

    def __exit__(self, *_error: object) -> None:
        self.give_back()
        if self._is_ours:
            os.close(self._fd)
        self._fd = -1

    def grab(self) -> None:
        """Get each key at once, and no echo."""
        if self._fd < 0:
            return
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        changed = termios.tcgetattr(self._fd)
        changed[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(self._fd, termios.TCSADRAIN, changed)

    def give_back(self) -> None:
        """Put the terminal as it was."""
        if self._fd >= 0:
            with contextlib.suppress(termios.error):  # it was hung up
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def read(self, seconds: float) -> list[str]:
        """Wait so long for keys at most."""
        if self._fd < 0:
            time.sleep(seconds)
            return []
        readable, _, _ = select.select([self._fd], [], [], seconds)
        if not readable:
            return []
        try:
            data = os.read(self._fd, 1024)
        except OSError:
            data = b""
        if not data:  # the terminal is gone: SIGHUP tells what to do, and must not be raced
            time.sleep(seconds)
        return split_keys(data.decode(errors="ignore"))
