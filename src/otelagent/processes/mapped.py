# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which file a range of a process is of."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from otelagent import metrics
from otelagent.errors import BadElf, TargetError
from otelagent.formats.proc_maps import MappedRange
from otelagent.log import fields
from otelagent.processes.python_files import tells_of_python
from otelagent.processes.spaces import Mapping

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.bpf.sideband import Event
    from otelagent.processes.executables import ClosableSource, Executables, Loaded

logger = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A mapped file that was opened: its bytes, its path, and (size, mtime ns)."""

    source: ClosableSource
    stamp: tuple[int, int]


@dataclass(slots=True)
class MappedFiles:
    """Finds files by the ranges that map them. Used by one thread, but for `executables.by_key`.

    Attributes:
        open_mapped: Opens the file behind a mapping of a pid.
        read_vdso: Gives the vDSO.
        look_mapped: Gives what `Opened.stamp` would be; None where it would have to be opened.
    """

    executables: Executables
    open_mapped: Callable[[int, MappedRange], Opened]
    read_vdso: Callable[[], bytes]
    look_mapped: Callable[[int, MappedRange], tuple[int, int] | None] = lambda _pid, _mapped: None
    _vdso: Loaded | None = None

    def meet(self, pid: int, mapped: MappedRange) -> None:
        """Recognise an interpreter that was never seen, though nothing of it was sampled yet."""
        is_new = mapped.inode and not self.executables.known(_identity(mapped))
        if not is_new or not tells_of_python(mapped.path):
            return
        with contextlib.suppress(TargetError):  # told and counted where it is wanted
            if loaded := self._file_of(pid, mapped):
                self.executables.recognise(loaded)

    def resolve(self, pid: int, mapped: MappedRange) -> Mapping:
        """Find out what file a range is, and its bias; anonymous where it is none that we know."""
        anonymous = Mapping(mapped.start, mapped.end, 0, None)
        try:
            loaded = self._file_of(pid, mapped)
            if loaded is None:
                return anonymous
            return Mapping(
                mapped.start, mapped.end, loaded.bias_of(mapped.start, mapped.offset), loaded
            )
        except BadElf:
            return anonymous
        except TargetError as err:
            metrics.mapping_failed.add(reason=type(err).__name__)
            logger.info("%s", fields("mapping not read", pid=pid, path=mapped.path, error=err))
            return anonymous

    def _file_of(self, pid: int, mapped: MappedRange) -> Loaded | None:
        if mapped.path == "[vdso]":
            if self._vdso is None:
                self._vdso = self.executables.add_vdso(self.read_vdso())
            return self._vdso
        if not mapped.inode:
            return None
        identity = _identity(mapped)
        if (known := self.executables.known(identity)) is not None:
            stamp = self.look_mapped(pid, mapped)
            if stamp is not None and self.executables.by_inode[identity][0] == stamp:
                known.pid = pid
                return known
        try:
            opened = self.open_mapped(pid, mapped)
        except TargetError:
            # Gone already: what is known of this inode is the best there is.
            if known is None:
                raise
            return known
        loaded = self.executables.add(identity, mapped.path, opened.source, opened.stamp)
        loaded.pid = pid
        return loaded


def _identity(mapped: MappedRange) -> tuple[int, int, int]:
    return mapped.major, mapped.minor, mapped.inode


def range_of(event: Event) -> MappedRange:
    """What an MMAP event tells of."""
    name = event.name.decode("utf-8", "surrogateescape")
    inode = event.inode
    if name.startswith(("//anon", "[")):
        inode = 0
    return MappedRange(
        event.addr,
        event.addr + event.length,
        event.page_offset,
        event.major,
        event.minor,
        inode,
        name,
    )
