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
from typing import TYPE_CHECKING, NamedTuple

from otelagent import log
from otelagent.errors import FormatError
from otelagent.export.backlog import FULL, Backlog, Lost
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
    size: int


class SpoolBacklog(Backlog[_Kept]):
    """A queue on disk of at most `most_bytes`.

    Raises:
        OutputError: The directory cannot be used.
    """

    def __init__(self, path: str, most_bytes: int) -> None:
        super().__init__(most_bytes)
        self._directory = KeptDirectory(path)
        self._number = 0
        for name in self._directory.names(_NAME):
            found = _NAME.fullmatch(name)
            if found:
                self._number = max(self._number, int(found[2]) + 1)
                self._enter(_Kept(name, int(found[3]), self._directory.taken_bytes(name)))
        self._make_room(0)

    def _leave(self, item: _Kept) -> None:
        super()._leave(item)
        try:
            self._directory.remove(item.name)
        except OSError as err:
            log.once(logger, "spool-remove", "the spool cannot be cleared", error=err)

    def put(self, record: Record) -> Lost:
        """Write a record; the oldest ones go where there is no room."""
        data = pack_record(record)
        size = whole_blocks(len(data))
        if not self._make_room(size):
            self._lost.append((record.samples, FULL))
            return self.lost()
        name = f"{record.start_ns:020}-{self._number:010}-{record.samples}{ENDING}"
        self._number = (self._number + 1) % 10**10
        try:
            self._directory.write(name, data)
            self._enter(_Kept(name, record.samples, size))
        except OSError as err:
            log.once(logger, "spool-write", "the spool cannot be written", error=err)
            self._lost.append((record.samples, NOT_WRITTEN))
        return self.lost()

    def claim(self) -> Record | None:
        """Read the oldest record; one that cannot be read is lost, and told by `lost`."""
        while self._claimed is None and self._waiting:
            kept = self._waiting.popleft()
            try:
                with (self._directory.path / kept.name).open("rb") as stream:
                    record = next(read_records(stream))
            except (OSError, FormatError, StopIteration) as err:
                log.once(logger, kept.name, DAMAGED, file=kept.name, error=err)
                self._leave(kept)
                self._lost.append((kept.samples, DAMAGED))
                continue
            self._claimed = kept
            return record
        return None

    def close(self) -> Lost:
        """End; what is left stays on disk, and is queued for the next run."""
        self.abandon()
        self._directory.close()
        return self.lost()
