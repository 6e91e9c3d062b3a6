# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The kernel's list of tracepoints, without leaving a mount behind.

tracefs is at one of two places; where it is at neither, one is mounted that no
path leads to: it is gone with its descriptor, and users' mounts stay as they are.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent._native import lib
from otelagent.errors import MissingFeature

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
PRIVATE = "a private mount"
_HINT = "mount -t tracefs tracefs /sys/kernel/tracing"


@contextmanager
def open_tracefs() -> Iterator[tuple[int, str]]:
    """Open the root directory of tracefs; yields (descriptor, where it is).

    Raises:
        MissingFeature: It is mounted nowhere and cannot be.
    """
    fd, place = _open()
    try:
        yield fd, place
    finally:
        os.close(fd)


def _open() -> tuple[int, str]:
    for place in PLACES:
        if (place / "events").is_dir():
            return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), str(place)
    fd = int(lib.oa_tracefs_mount())
    if fd >= 0:
        return fd, PRIVATE
    places = " nor ".join(map(str, PLACES))
    raise MissingFeature(
        f"no tracefs at {places}, and it cannot be mounted: {os.strerror(-fd)}", hint=_HINT
    )


def find_event(category: str, name: str) -> int | None:
    """Find the number by which perf knows a tracepoint; None if the kernel has no such one.

    Raises:
        MissingFeature: There is no tracefs.
    """
    with open_tracefs() as (root, _):
        try:
            fd = os.open(f"events/{category}/{name}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        except OSError:
            return None
    with os.fdopen(fd) as stream:
        return int(stream.read())
