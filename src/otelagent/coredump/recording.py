# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From a process to a snapshot: unwind it once, keep what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.coredump.noting import NotingImage
from otelagent.coredump.replay import replay
from otelagent.coredump.trimming import trim
from otelagent.errors import TargetError
from otelagent.host.files import open_target
from otelagent.symbolize.jit import find_jitdumps

if TYPE_CHECKING:
    from otelagent.host.image import ProcessImage
    from otelagent.host.snapshot import Snapshot

MAX_NOTE_BYTES = 4 << 20


def record(image: ProcessImage, *, is_live: bool) -> Snapshot:
    """Make a snapshot of an image, as small as can be: it unwinds to the same stacks.

    Args:
        image: A live process, which is stopped meanwhile, or a core file.
        is_live: What its JIT compilers wrote is kept, too.

    Raises:
        TargetError: It cannot be read or held.
    """
    with image.hold() as threads:
        noting = NotingImage(image, threads)
        notes = read_notes(image.pid) if is_live else {}
        replay(noting, notes)
        snapshot = noting.snapshot()
    noting.close()
    snapshot.notes = notes
    return trim(snapshot)


def read_notes(pid: int) -> dict[str, bytes]:
    """Read the perf map and the jitdumps of a process, by path as it sees them."""
    found: dict[str, bytes] = {}
    dumps = find_jitdumps(pid)
    for path in (*dumps, f"/tmp/perf-{pid}.map"):  # noqa: S108
        try:
            source = open_target(f"/proc/{pid}/root", path)
        except TargetError:
            continue
        with source:
            if source.size <= MAX_NOTE_BYTES:
                found[path] = source.read_at(0, source.size)
    if dumps:
        found["maps"] = "".join(f"0-1 r-xp 0 0:0 1 {path}\n" for path in dumps).encode()
    return found
