# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a snapshot small: leaves out of files what its stacks do not depend on.

A library's call frame information and symbols are read whole, for a few
functions. Those of other functions are blanked (`coredump.blanking`); of what is
large then, parts are replaced by zeros for as long as the stacks stay the same.
Whatever is left out, a replay proves it: the stacks are equal, and nothing else is read.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otelagent.coredump.blanking import blank_frames, blank_symbols
from otelagent.coredump.blanking_go import blank_go
from otelagent.coredump.replay import expected, replay
from otelagent.errors import AgentError
from otelagent.host.snapshot import SnapshotImage, SparseFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.coredump.blanking import Edit
    from otelagent.host.snapshot import FilePart, Piece, Snapshot

MAX_REPLAYS = 100
HEAD_BYTES = 4096
"""What begins before is kept: the headers."""
MIN_BYTES = 1024
MIN_COST = 256
"""What is smaller, packed, is kept as it is."""


@dataclass(slots=True)
class Trimmer:
    """One snapshot that is made smaller; `addresses` are those of its frames, by path."""

    snapshot: Snapshot
    wanted: list[dict[str, Any]]
    addresses: dict[str, set[int]]
    replays: int = 0

    def holds(self) -> bool:
        """Tell whether the snapshot still gives the stacks that it should."""
        self.replays += 1
        image = SnapshotImage(self.snapshot)
        try:
            found = expected(replay(image, self.snapshot.notes))
        except AgentError:
            return False
        return found == self.wanted and not image.strays

    def edit(self, part: FilePart, make: Callable[[SparseFile, set[int]], list[Edit]]) -> None:
        """Apply edits to a file if the stacks stay the same."""
        edits = make(SparseFile(part, []), self.addresses.get(part.path, set()))
        before = part.pieces
        if edits:
            part.pieces = apply(part.pieces, edits)
            if not self.holds():
                part.pieces = before

    def drop_unused(self) -> None:
        """Drop files that no stack has a frame in, and their mappings."""
        unused = {each.path for each in self.snapshot.files if each.path not in self.addresses}
        for paths in (unused, *({path} for path in sorted(unused))):
            before = self.snapshot.files, self.snapshot.maps
            self.snapshot.files = [each for each in before[0] if each.path not in paths]
            self.snapshot.maps = [each for each in before[1] if each.path not in paths]
            if self.holds():
                if paths == unused:
                    return
            else:
                self.snapshot.files, self.snapshot.maps = before

    def thin(self) -> None:
        """Drop runs of bytes that do not matter, the costly ones first; halve those that do."""
        pending = [
            (_cost(piece), part, piece)
            for part in self.snapshot.files
            for piece in part.pieces
            if piece[0] >= HEAD_BYTES and len(piece[1]) >= MIN_BYTES
        ]
        while pending and self.replays < MAX_REPLAYS:
            most = max(pending, key=lambda each: each[0])
            pending.remove(most)
            cost, part, piece = most
            if cost < MIN_COST:
                return
            before = part.pieces
            part.pieces = [each for each in before if each is not piece]
            if self.holds():
                continue
            halves = split(piece)
            part.pieces = sorted([*part.pieces, *halves])
            if len(halves[0][1]) >= MIN_BYTES:
                pending += [(_cost(half), part, half) for half in halves]


def _cost(piece: Piece) -> int:
    return len(zlib.compress(piece[1], 6))


def split(piece: Piece) -> list[Piece]:
    """Cut a piece in two."""
    offset, data = piece
    half = len(data) // 2
    return [(offset, data[:half]), (offset + half, data[half:])]


def apply(pieces: list[Piece], edits: list[Edit]) -> list[Piece]:
    """Overwrite bytes of pieces, as far as they are there."""
    changed = []
    for offset, data in pieces:
        new = bytearray(data)
        for at, replacement in edits:
            low, high = max(at, offset), min(at + len(replacement), offset + len(data))
            if low < high:
                new[low - offset : high - offset] = replacement[low - at : high - at]
        changed.append((offset, bytes(new)))
    return changed


def squeeze(pieces: list[Piece]) -> list[Piece]:
    """Leave out long runs of zeros at the ends of pieces, and join neighbours."""
    joined: list[Piece] = []
    for offset, data in pieces:
        if joined and joined[-1][0] + len(joined[-1][1]) == offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + data)
        else:
            joined.append((offset, data))
    return [(offset, data) for offset, data in joined if any(data)]


def trim(snapshot: Snapshot) -> Snapshot:
    """Make a snapshot smaller, in place.

    Raises:
        AgentError: It cannot be unwound.
    """
    stacks = replay(SnapshotImage(snapshot), snapshot.notes)
    addresses: dict[str, set[int]] = {}
    for stack in stacks:
        for frame in stack.trace.frames:
            if frame.executable:
                addresses.setdefault(frame.executable.path, set()).add(frame.address)
    trimmer = Trimmer(snapshot, expected(stacks), addresses)
    trimmer.drop_unused()
    for part in snapshot.files:
        trimmer.edit(part, blank_go)
        trimmer.edit(part, blank_frames)
        trimmer.edit(part, blank_symbols)
    trimmer.thin()
    for part in snapshot.files:
        part.pieces = squeeze(part.pieces)
    return snapshot
