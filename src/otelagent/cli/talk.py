# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What commands say on stderr."""

from __future__ import annotations

import sys


class Talk:
    """What is said on stderr: lines, and on a terminal a status line that is rewritten."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._shown = False

    def say(self, text: str) -> None:
        """Write a line."""
        if not self._quiet:
            self._clear()
            sys.stderr.write(f"otelagent: {text}\n")
            sys.stderr.flush()

    def status(self, text: str) -> None:
        """Rewrite the status line."""
        if self._live:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._shown = True

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = False
