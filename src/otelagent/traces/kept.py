# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a long recording keeps: its traces and counts, the older ones packed.

A trace as Python's objects takes 1.4 KB with its count, and in a storm of short processes
every sample brings a new one. Nobody looks at most of them before the end, so that what is
older goes into blocks of which a trace takes some 0.1 KB. A recording with few different
stacks, as nearly all are, never comes to that.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from otelagent.abi.codec import RawTrace, decode_trace, encode_trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MOST_LOOSE = 4096
"""Traces, and counts, that are kept as they are."""
BLOCK = 512
_ROW = struct.Struct("=QII16sIQ")


class GroupKey(NamedTuple):
    """What samples must share to be counted together."""

    hash: int
    pid: int
    tid: int
    comm: bytes


@dataclass(slots=True)
class GroupTotal:
    """How often a group was sampled; times are CLOCK_MONOTONIC ns."""

    count: int = 0
    weight: int = 0
    times_ns: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, count: int, weight: int, times_ns: Iterable[int]) -> None:
        """Count samples, each at its time."""
        self.count += count
        self.weight += weight
        self.times_ns.extend(times_ns)


class _Packer:
    """Packs lists of bytes."""

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415 (few recordings come to this)

        self._compressor = zstandard.ZstdCompressor(level=1)

    def pack(self, parts: list[bytes]) -> bytes:
        """Pack; the copy lets what is allocated meanwhile go as a whole, in one piece."""
        sizes = array("I", map(len, parts)).tobytes()
        data = b"".join((len(parts).to_bytes(4, "little"), sizes, *parts))
        return bytes(memoryview(self._compressor.compress(data)))


def _unpack(block: bytes) -> Iterator[memoryview]:
    import zstandard  # noqa: PLC0415

    data = memoryview(zstandard.decompress(block))
    at = 4 + 4 * int.from_bytes(data[:4], "little")
    for size in data[4:at].cast("I"):
        yield data[at : at + size]
        at += size


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where traces are packed that were walked alike."""

    block: bytes
    number: int
    flags: int
    fault: int


class KeptTraces(MutableMapping[int, RawTrace]):
    """Traces by hash. One thread adds and removes; others may look one up meanwhile."""

    def __init__(self, most_loose: int = MOST_LOOSE) -> None:
        self._most_loose = most_loose
        self._loose: dict[int, RawTrace] = {}
        self._packed: dict[int, Place] = {}
        self._packer: _Packer | None = None
        self._open: tuple[bytes, dict[int, RawTrace]] = (b"", {})
        self._blocks = 0

    def how(self, hash_: int) -> RawTrace | Place | None:
        """Tell how a trace was walked (`flags`, `fault`), which is cheap; None: it is not here."""
        return self._loose.get(hash_) or self._packed.get(hash_)

    def place(self, hash_: int) -> int:
        """Tell where a trace is: who looks many up by their places unpacks each block once."""
        found = self._packed.get(hash_)
        return found.number if found else 0

    def __getitem__(self, hash_: int) -> RawTrace:
        if found := self._loose.get(hash_):
            return found
        block = self._packed[hash_].block
        last, traces = self._open
        if last is not block:
            traces = {trace.hash: trace for trace in map(decode_trace, _unpack(block))}
            self._open = (block, traces)
        return traces[hash_]

    def __setitem__(self, hash_: int, trace: RawTrace) -> None:
        self._loose[hash_] = trace
        self._packed.pop(hash_, None)
        if len(self._loose) >= self._most_loose + BLOCK:
            self._pack()

    def __delitem__(self, hash_: int) -> None:
        if not self.discard(hash_):
            raise KeyError(hash_)

    def discard(self, hash_: int) -> bool:
        """Remove a trace; tells whether it was there."""
        return bool(self._loose.pop(hash_, None) or self._packed.pop(hash_, None))

    def __contains__(self, hash_: object) -> bool:
        return hash_ in self._loose or hash_ in self._packed

    def __len__(self) -> int:
        return len(self._loose) + len(self._packed)

    def __iter__(self) -> Iterator[int]:
        return iter([*self._packed, *self._loose])

    def _pack(self) -> None:
        """Pack the oldest: who looks one up meanwhile finds it in one place or the other."""
        oldest = [trace for trace, _ in zip(self._loose.values(), range(BLOCK), strict=False)]
        self._packer = self._packer or _Packer()
        block = self._packer.pack([encode_trace(trace) for trace in oldest])
        self._blocks += 1
        places: dict[tuple[int, int], Place] = {}
        for trace in oldest:
            how = (trace.flags, trace.fault)
            place = places.get(how) or places.setdefault(how, Place(block, self._blocks, *how))
            self._packed[trace.hash] = place
            del self._loose[trace.hash]


class PackedGroups:
    """Counts that were put away; a key may come more than once."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._packer: _Packer | None = None

    def add(self, groups: Mapping[GroupKey, GroupTotal]) -> None:
        """Put counts away."""
        rows, times = [], array("Q")
        for key, total in groups.items():
            rows.append(_ROW.pack(*key, len(total.times_ns), total.weight))
            times.extend(total.times_ns)
        self._packer = self._packer or _Packer()
        self._blocks.append(self._packer.pack([b"".join(rows), times.tobytes()]))

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __iter__(self) -> Iterator[tuple[GroupKey, GroupTotal]]:
        for block in self._blocks:
            rows, times = _unpack(block)
            left = array("Q", bytes(times))
            first = 0
            for hash_, pid, tid, comm, count, weight in _ROW.iter_unpack(rows):
                total = GroupTotal(count, weight, left[first : first + count])
                yield GroupKey(hash_, pid, tid, comm), total
                first += count
