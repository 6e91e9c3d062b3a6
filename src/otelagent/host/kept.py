# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are kept open for long: many, so a descriptor may be given back and got again."""

from __future__ import annotations

import os
import resource
import threading
from typing import Self

from otelagent.errors import TargetError
from otelagent.host.files import FileSource, open_file


class KeptFile(FileSource):
    """A file that can be parked: its descriptor is closed until the file is read again.

    A deleted or replaced file cannot be got again: then it reads as empty. May be
    used by several threads.
    """

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd)
        self.path = path
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str) -> Self:
        """Open a regular file.

        Raises:
            TargetError: It cannot be opened, or is not a regular file.
        """
        return cls.keep(open_file(path), path)

    @classmethod
    def keep(cls, source: FileSource, path: str) -> Self:
        """Take over an open file; `path` is where it may be found again."""
        fd, source.fd = source.fd, -1
        return cls(fd, path)

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self.fd >= 0

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes at `offset`; fewer at the end or when the file is gone."""
        with self._lock:
            if self.fd < 0 and not self._reopen():
                return b""
            return super().read_at(offset, size)

    def park(self) -> None:
        """Give the descriptor back until the file is read again."""
        with self._lock:
            super().close()

    def close(self) -> None:
        """As `park`: closing does not make it unreadable."""
        self.park()

    def _reopen(self) -> bool:
        try:
            found = open_file(self.path)
        except TargetError:
            return False
        if found.key != self.key:
            found.close()
            return False
        self.fd, found.fd = found.fd, -1
        return True


def raise_open_files() -> int:
    """Let this process open as many files as it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else max(soft, os.sysconf("SC_OPEN_MAX"))
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
