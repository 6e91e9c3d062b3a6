# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Drain the ring in C, without the GIL.

`drain` gives the records (traces, deferred stacks, reports), at most 4 MiB of
them. Samples stay in the C core, which groups and counts them, until `take`:
at most 32,768 of them, then draining goes on only after it. A group's trace was
always drained before, since in the ring a sample never precedes its trace.
Used by one thread at a time.
"""

from __future__ import annotations

import select
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from otelagent._native import ffi, lib
from otelagent.bpf.reasons import describe, hint_for
from otelagent.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.bpf.object import MapInfo

_GROUP = struct.Struct("=QQII16sIII4x")
_RECORD = struct.Struct("=III")


class Group(NamedTuple):
    """Samples of one thread with one trace (`struct oa_group`)."""

    hash: int
    weight: int
    pid: int
    tid: int
    comm: bytes
    """16 bytes, padded with zeros."""
    samples: int
    first: int
    """Index of the first time in `Samples.times_ns`; `samples` of them follow."""
    flags: int
    """`SampleFlag` bit numbers of all samples, joined."""


class Batch(NamedTuple):
    """What one call drained; it owns its bytes and may go to another thread.

    `malformed` counts records that are not what their kind says, `has_more` that the
    ring is not empty yet: take the samples and drain again.
    """

    record_bytes: bytes
    data: bytes
    malformed: int
    discarded: int
    has_more: bool

    def records(self) -> Iterator[tuple[int, memoryview]]:
        """Go through traces, deferred stacks and reports: (`RecordKind`, its bytes), in order."""
        view = memoryview(self.data)
        for offset, size, kind in _RECORD.iter_unpack(self.record_bytes):
            yield kind, view[offset : offset + size]


class Samples(NamedTuple):
    """Samples that were counted in C; it owns its bytes. `times_ns`: CLOCK_MONOTONIC, grouped."""

    group_bytes: bytes
    times_ns: memoryview[int]

    def groups(self) -> Iterator[Group]:
        """Go through the groups, in the order of their first samples."""
        return map(Group._make, _GROUP.iter_unpack(self.group_bytes))


NO_SAMPLES = Samples(b"", memoryview(b"").cast("Q"))


class Ring:
    """The reader's end of a BPF ring buffer."""

    def __init__(self, handle: Any, fd: int) -> None:  # noqa: ANN401 (cdata)
        self._handle = handle
        self._fd = fd
        self._batch = ffi.new("struct oa_batch *")
        self._groups = ffi.new("struct oa_groups *")
        self._poll = select.poll()
        if fd >= 0:
            self._poll.register(fd, select.POLLIN)

    @classmethod
    def open(cls, info: MapInfo) -> Ring:
        """Map the ring buffer that `info` describes.

        Raises:
            KernelError: It cannot be mapped.
        """
        error = ffi.new("s32 *")
        handle = lib.oa_ring_open(info.fd, info.max_entries, error)
        if error[0]:
            message = f"cannot map ring {info.name}: {describe(error[0])}"
            raise KernelError(message, hint=hint_for(error[0]))
        return cls(handle, info.fd)

    def fileno(self) -> int:
        """Get the descriptor to poll: readable while the ring is not empty, when BPF wakes us."""
        return self._fd

    def wait(self, timeout_ms: int) -> bool:
        """Sleep until there is data and BPF asked for a wake-up, or the time is over."""
        return bool(self._poll.poll(timeout_ms))

    def pending_bytes(self) -> int:
        """Count the bytes that wait to be drained."""
        return int(lib.oa_ring_pending(self._handle))

    def drain(self) -> Batch:
        """Take the records that are in the ring now, and count its samples in C."""
        batch = self._batch
        lib.oa_drain(self._handle, batch)
        told = (batch.malformed, batch.discarded, bool(batch.more))
        if not batch.record_count:
            return Batch(b"", b"", *told)
        return Batch(
            ffi.buffer(batch.records, batch.record_count * _RECORD.size)[:],
            ffi.buffer(batch.data, batch.data_bytes)[:],
            *told,
        )

    def take(self) -> Samples:
        """Take the samples that were drained since the last call."""
        groups = self._groups
        lib.oa_take_groups(self._handle, groups)
        if not groups.sample_count:
            return NO_SAMPLES
        return Samples(
            ffi.buffer(groups.groups, groups.group_count * _GROUP.size)[:],
            memoryview(ffi.buffer(groups.times, groups.sample_count * 8)[:]).cast("Q"),
        )

    def close(self) -> None:
        """Give the memory back."""
        if self._handle is not None:
            lib.oa_ring_close(self._handle)
            self._handle = None
