# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What runs already before a whole system is sampled.

Processes are read when they are first sampled, but one may be gone by then: where the
machine leaves us no time, or where it ends soon after. So what each has mapped is kept
as the kernel says it, and not looked at. Only the files of interpreters are recognised, as
BPF can tell where their frames are in a first sample (`python_files.py`).
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import TargetError
from otelagent.formats.proc_maps import keep_executable, parse_executable
from otelagent.log import fields
from otelagent.processes.files import open_mapped
from otelagent.processes.python_files import is_interpreter, tells_of_python

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from otelagent.formats.proc_maps import MappedRange
    from otelagent.processes.executables import Executables

logger = logging.getLogger(__name__)
MAX_MAPS_BYTES = 1 << 20
"""Of one process: interpreters are mapped before what they make."""
MAX_KEPT_BYTES = 4 << 20
"""Some 2,000 processes; those beyond are read when they are sampled."""


class Survey:
    """Looks at all processes once, a few at a time.

    Args:
        executables: Interpreters are made known to them.
        keep: Takes a process, its lines of /proc/PID/maps that are of code, and the time
            (CLOCK_MONOTONIC) before these were read.
        wanted: The processes that are to be kept; None for all.
    """

    def __init__(
        self,
        executables: Executables,
        keep: Callable[[int, bytes, int], None],
        wanted: Container[int] | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        self._executables = executables
        self._keep = keep
        self._wanted = wanted
        self._proc = proc
        self._left = [int(name) for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208
        self._pythons: list[tuple[int, MappedRange]] = []
        self._met: set[tuple[int, int, int]] = set()
        self._kept_bytes = 0

    def go_on(self, seconds: float) -> bool:
        """Look at as many as `seconds` of CPU reach, and one at least; tell whether some are left.

        How long that takes a busy machine does not count: there it is needed most. Interpreters
        come last, as to recognise one takes as long as to keep many processes.
        """
        until = time.thread_time() + seconds
        while self._left or self._pythons:
            if self._left:
                self._look_at(self._left.pop())
            else:
                _recognise(self._executables, *self._pythons.pop())
            if time.thread_time() >= until:
                break
        return bool(self._left or self._pythons)

    def _look_at(self, pid: int) -> None:
        now_ns = time.monotonic_ns()
        data = _read_start(self._proc / str(pid) / "maps")
        if b"python" in data:
            self._note_interpreter(pid, data)
        if len(data) >= MAX_MAPS_BYTES or not (self._wanted is None or pid in self._wanted):
            return
        lines = keep_executable(data)
        self._kept_bytes += len(lines)
        if lines and self._kept_bytes < MAX_KEPT_BYTES:
            self._keep(pid, lines, now_ns)

    def _note_interpreter(self, pid: int, data: bytes) -> None:
        for mapped in _of_interest(data):
            identity = (mapped.major, mapped.minor, mapped.inode)
            if identity not in self._met:
                self._met.add(identity)
                self._pythons.append((pid, mapped))


def _read_start(maps: Path) -> bytes:
    try:
        with maps.open("rb") as stream:
            return stream.read(MAX_MAPS_BYTES)
    except OSError:
        return b""


def _of_interest(data: bytes) -> list[MappedRange]:
    """List mappings of an interpreter and its dynamic linker; none if there is no interpreter."""
    found = [each for each in parse_executable(data) if each.inode]
    if not any(is_interpreter(each.path) for each in found):
        return []
    return [each for each in found if tells_of_python(each.path)]


def _recognise(executables: Executables, pid: int, mapped: MappedRange) -> None:
    identity = (mapped.major, mapped.minor, mapped.inode)
    try:
        opened = open_mapped(pid, mapped)
        loaded = executables.add(identity, mapped.path, opened.source, opened.stamp)
    except TargetError as err:
        logger.info("%s", fields("not looked at in advance", file=mapped.path, error=err))
        return
    loaded.pid = pid
    executables.recognise(loaded)
