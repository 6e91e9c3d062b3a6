# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Profiles kept on this machine: rotated files of requests, bounded in bytes and age.

The format is that of `records`; a file is named after the time of its first request.
Whole files are removed, the oldest first, so that what is kept is the newest.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from typing import TYPE_CHECKING

from otelagent import log, metrics
from otelagent.export.account import Account, Amount
from otelagent.export.directory import ENDING, KeptDirectory, whole_blocks
from otelagent.export.records import pack_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.export.records import Record

logger = logging.getLogger(__name__)
_NAME = re.compile(r"\d{20}-\d{4,}" + re.escape(ENDING))
MAX_FILE_BYTES = 16 << 20
MAX_FILE_NS = 3600 * 10**9
SHARE = 16
"""A file is at most this part of the whole, so that making room does not empty the store."""


class Store:
    """Keeps requests. `put` and `close` are called by one thread.

    Raises:
        OutputError: The directory cannot be used.
    """

    def __init__(
        self,
        path: str,
        most_bytes: int,
        most_age_ns: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.where = path
        self._most_bytes = most_bytes
        self._most_age_ns = most_age_ns
        self._clock_ns = clock_ns
        self._file_bytes = min(MAX_FILE_BYTES, max(most_bytes // SHARE, 1))
        self._directory = KeptDirectory(path)
        names = self._directory.names(_NAME)
        self._kept = {name: self._directory.taken_bytes(name) for name in names}
        self._name = ""
        self._size = 0
        self._began_ns = 0
        self._lock = threading.Lock()
        self.account = Account()

    def put(self, record: Record) -> None:
        """Keep a request; where that is not possible, it is counted."""
        data = pack_record(record)
        with self._lock:
            self.account.attempt(record.samples)
            if whole_blocks(len(data)) > self._most_bytes:
                self.account.drop(record.samples, "it is larger than the store")
                return
            try:
                self._rotate(len(data), record.start_ns)
                self._append(data)
            except OSError as err:
                log.once(logger, err.errno, "the store cannot be written", error=err)
                self.account.drop(record.samples, "it could not be written into the store")
            else:
                self.account.deliver(record.samples)

    def _rotate(self, size: int, start_ns: int) -> None:
        """Begin another file where this one is large or old, and remove what is too much."""
        is_old = self._clock_ns() - self._began_ns > min(MAX_FILE_NS, self._most_age_ns)
        if not self._name or is_old or (self._size and self._size + size > self._file_bytes):
            if self._name:
                self._directory.sync(self._name)  # it is whole
                self._directory.sync()
            self._name = _file_name(start_ns, self._kept)
            self._size = 0
            self._began_ns = self._clock_ns()
        self._kept[self._name] = whole_blocks(self._size + size)
        oldest_ns = self._clock_ns() - self._most_age_ns
        while sum(self._kept.values()) > self._most_bytes or self._is_older(oldest_ns):
            name = next(iter(self._kept))
            if name == self._name:
                break
            self._directory.remove(name)
            del self._kept[name]
            metrics.store_expired.add()

    def _is_older(self, oldest_ns: int) -> bool:
        """Tell whether all of the oldest file is older: it ends where the next one begins."""
        names = [name for name, _ in zip(self._kept, range(2), strict=False)]
        return len(names) > 1 and begin_of(names[1]) <= oldest_ns

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._directory.path / self._name, flags, 0o600)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], self._size + done)
            self._size += len(data)
        except OSError:
            os.ftruncate(fd, self._size)  # half a record would end the file for readers
            raise
        finally:
            os.close(fd)

    @property
    def queued(self) -> Amount:
        """What waits: nothing, ever."""
        return Amount()

    @property
    def queued_bytes(self) -> int:
        """What is kept takes."""
        with self._lock:
            return sum(self._kept.values())

    def close(self, _seconds: float) -> None:
        """End; everything is in files already."""
        self._directory.close()

    def summary(self) -> str:
        """Tell in one line what became of everything."""
        with self._lock:
            return f"{self.where}: requests: {self.account.summary(Amount())}"


def _file_name(start_ns: int, others: dict[str, int]) -> str:
    number = 0
    newest = max((begin_of(name) for name in others), default=0)
    start_ns = max(start_ns, newest)  # names stay in order though the clock was set back
    while (name := f"{start_ns:020}-{number:04}{ENDING}") in others:
        number += 1
    return name


def begin_of(name: str) -> int:
    """Tell when the first request in a file began (UNIX ns); 0 for a name that is not ours."""
    head = name.partition("-")[0]
    return int(head) if head.isdecimal() else 0
