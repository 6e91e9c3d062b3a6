# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A directory that one agent keeps files in: spool and store."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.errors import OutputError
from otelagent.log import fields

if TYPE_CHECKING:
    import re

logger = logging.getLogger(__name__)
ENDING = ".otlp.zst"
STRANGE = "it is not named as we name files"
_LOCK = ".lock"
_PART = ".part"
BLOCK_BYTES = 4096
"""What a file takes at least on most file systems, and what its size is rounded up to."""


class KeptDirectory:
    """A directory of ours; two agents with one would send everything twice.

    Raises:
        OutputError: It cannot be made or written, or another agent has it.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as err:
            raise OutputError(f"{path}: {err.strerror or err}", hint="name another place") from err
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            os.close(self._lock)
            hint = "each agent needs a place of its own"
            raise OutputError(f"{path} is in use by another agent", hint=hint) from err
        for left in self.path.glob(f"*{_PART}"):
            left.unlink(missing_ok=True)  # a write that a crash ended

    def names(self, ours: re.Pattern[str]) -> list[str]:
        """List our files, named so that this is oldest first; others are told, and left alone."""
        found = sorted(each.name for each in os.scandir(self.path) if each.name.endswith(ENDING))
        strangers = [name for name in found if not ours.fullmatch(name)]
        if strangers:
            metrics.kept_skipped.add(len(strangers), reason=STRANGE)
            where = {"directory": self.path, "files": len(strangers), "one": strangers[0]}
            logger.warning("%s", fields(f"skipped: {STRANGE}", **where))
        return [name for name in found if ours.fullmatch(name)]

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which appears whole or not at all, and is there after a loss of power.

        Raises:
            OSError: It could not be written.
        """
        part = self.path / f"{name}{_PART}"
        try:
            with part.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fdatasync(stream.fileno())
            part.rename(self.path / name)
            self.sync()
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def sync(self, name: str = "") -> None:
        """Let the disk have a file of ours, or by default which files there are.

        Raises:
            OSError: It could not be written.
        """
        fd = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def taken_bytes(self, name: str) -> int:
        """Tell what a file takes; 0 if it is gone."""
        try:
            return whole_blocks((self.path / name).stat().st_size)
        except FileNotFoundError:
            return 0

    def remove(self, name: str) -> None:
        """Remove a file; that it is gone already is no error.

        Raises:
            OSError: It cannot be removed.
        """
        (self.path / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have the directory."""
        os.close(self._lock)


def whole_blocks(size: int) -> int:
    """Round a size up to what it takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
