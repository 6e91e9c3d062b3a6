# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What waits to be sent, on disk: one file a request, so that a restart loses nothing.

A file is named after its time, a number and its samples: what is in the spool is known
without opening anything. It is removed once it was delivered; whoever is killed between
the two sends one request twice.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from otelagent import log
from otelagent.errors import FormatError
from otelagent.export.account import Amount
from otelagent.export.backlog import FULL
from otelagent.export.directory import ENDING, KeptDirectory, whole_blocks
from otelagent.export.records import pack_record, read_records

if TYPE_CHECKING:
    from otelagent.export.records import Record

logger = logging.getLogger(__name__)
_NAME = re.compile(r"(\d{20})-(\d{10})-(\d+)" + re.escape(ENDING))
DAMAGED = "its file in the spool is damaged or gone"
NOT_WRITTEN = "it could not be written into the spool"


class _Kept(NamedTuple):
    name: str
    samples: int
    taken_bytes: int


class SpoolBacklog:
    """A queue on disk of at most `most_bytes`.

    Raises:
        OutputError: The directory cannot be used.
    """

    def __init__(self, path: str, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._directory = KeptDirectory(path)
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._claimed: _Kept | None = None
        self._number = 0
        self._lost: list[tuple[int, str]] = []
        self.queued = Amount()
        for name in self._directory.names():
            if found := _NAME.fullmatch(name):
                self._number = max(self._number, int(found[2]) + 1)
                self._enter(_Kept(name, int(found[3]), self._directory.taken_bytes(name)))
        self._make_room(0)

    def _enter(self, kept: _Kept) -> None:
        self._kept.append(kept)
        self._bytes += kept.taken_bytes
        self.queued.add(kept.samples)

    def _remove(self, kept: _Kept) -> None:
        self._bytes -= kept.taken_bytes
        self.queued.add(-kept.samples, -1)
        try:
            self._directory.remove(kept.name)
        except OSError as err:
            log.once(logger, "spool-remove", "the spool cannot be cleared", error=err)

    def _make_room(self, size: int) -> None:
        while self._kept and self._bytes + size > self._most_bytes:
            oldest = self._kept.popleft()
            self._remove(oldest)
            self._lost.append((oldest.samples, FULL))

    def put(self, record: Record) -> list[tuple[int, str]]:
        """Write a record; the oldest ones go where there is no room."""
        data = pack_record(record)
        size = whole_blocks(len(data))
        self._make_room(size)
        if self._bytes + size > self._most_bytes:
            self._lost.append((record.samples, FULL))
        else:
            name = f"{record.start_ns:020}-{self._number:010}-{record.samples}{ENDING}"
            self._number = (self._number + 1) % 10**10
            try:
                self._directory.write(name, data)
                self._enter(_Kept(name, record.samples, size))
            except OSError as err:
                log.once(logger, "spool-write", "the spool cannot be written", error=err)
                self._lost.append((record.samples, NOT_WRITTEN))
        return self._take_lost()

    def _take_lost(self) -> list[tuple[int, str]]:
        lost, self._lost = self._lost, []
        return lost

    def claim(self) -> Record | None:
        """Read the oldest record; one that cannot be read is lost, and told by the next call."""
        while self._claimed is None and self._kept:
            kept = self._kept.popleft()
            try:
                with (self._directory.path / kept.name).open("rb") as stream:
                    record = next(read_records(stream))
            except (OSError, FormatError, StopIteration) as err:
                log.once(logger, kept.name, DAMAGED, file=kept.name, error=err)
                self._remove(kept)
                self._lost.append((kept.samples, DAMAGED))
                continue
            self._claimed = kept
            return record
        return None

    def lost(self) -> list[tuple[int, str]]:
        """Give what was lost meanwhile."""
        return self._take_lost()

    def finish(self) -> None:
        """Remove what was claimed."""
        if self._claimed is not None:
            self._remove(self._claimed)
            self._claimed = None

    def abandon(self) -> None:
        """Let what was claimed wait on."""
        if self._claimed is not None:
            self._kept.appendleft(self._claimed)
            self._claimed = None

    def close(self) -> list[tuple[int, str]]:
        """End; what is left stays on disk, and is queued for the next run."""
        self.abandon()
        self._directory.close()
        return self._take_lost()
