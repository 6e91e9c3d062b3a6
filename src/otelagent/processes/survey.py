# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which interpreters run already, before a whole system is sampled.

Processes are read when they are first sampled. Where the interpreter's frames are
in a stack of before that, BPF can tell for files that it knows (`python_files.py`):
so the files of running interpreters are looked at first, their rows later.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import TargetError
from otelagent.formats.proc_maps import parse_executable
from otelagent.log import fields
from otelagent.processes.files import open_mapped
from otelagent.processes.python_files import is_interpreter, tells_of_python

if TYPE_CHECKING:
    from otelagent.formats.proc_maps import MappedRange
    from otelagent.processes.executables import Executables

logger = logging.getLogger(__name__)
MAX_MAPS_BYTES = 1 << 20
"""Of one process: interpreters are mapped before what they make."""


def meet_interpreters(
    executables: Executables, seconds: float = 0.3, proc: Path = Path("/proc")
) -> None:
    """Recognise the files of interpreters that run now, as many as `seconds` reach."""
    until = time.monotonic() + seconds
    met: set[tuple[int, int, int]] = set()
    for name in os.listdir(proc):  # noqa: PTH208 (names only)
        if time.monotonic() > until:
            logger.info("%s", fields("not all processes were looked at in advance", met=len(met)))
            return
        if not name.isdigit():
            continue
        for mapped in _of_interest(proc / name / "maps"):
            identity = (mapped.major, mapped.minor, mapped.inode)
            if identity not in met:
                met.add(identity)
                _recognise(executables, int(name), mapped)


def _of_interest(maps: Path) -> list[MappedRange]:
    """List mappings of an interpreter and its dynamic linker; none if there is no interpreter."""
    try:
        with maps.open("rb") as stream:
            data = stream.read(MAX_MAPS_BYTES)
    except OSError:
        return []
    if b"python" not in data:
        return []
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
