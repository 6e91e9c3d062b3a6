# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Open the file behind a mapping."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otelagent.errors import TargetError
from otelagent.host import files
from otelagent.host.kept import KeptFile
from otelagent.processes.mapped import Opened

if TYPE_CHECKING:
    from otelagent.formats.proc_maps import MappedRange


def open_mapped(pid: int, mapped: MappedRange) -> Opened:
    """Open the file of a mapping; also when the process is gone, if its path still leads there.

    Raises:
        TargetError: It cannot be opened, or another file is there now.
    """
    dev = os.makedev(mapped.major, mapped.minor)
    try:
        source = files.open_mapped(
            pid, mapped.start, mapped.end, mapped.path, dev=dev, inode=mapped.inode
        )
    except TargetError:
        source = files.open_file(mapped.path)
        if (source.stat.st_ino, source.stat.st_dev) != (mapped.inode, dev):
            source.close()
            raise
    stamp = (source.stat.st_size, source.stat.st_mtime_ns)
    return Opened(KeptFile.keep(source, mapped.path), stamp)


def look_mapped(pid: int, mapped: MappedRange) -> tuple[int, int] | None:
    """Give (size, mtime ns) of the file of a mapping without opening it; None if in doubt."""
    # The path first: it leads there mostly, in a quarter of the time.
    for path in (mapped.path, f"/proc/{pid}/map_files/{mapped.start:x}-{mapped.end:x}"):
        try:
            found = os.stat(path)  # noqa: PTH116 (for each mapping of each process)
        except (OSError, ValueError):
            continue
        if (found.st_ino, found.st_dev) == (mapped.inode, os.makedev(mapped.major, mapped.minor)):
            return found.st_size, found.st_mtime_ns
    return None
