# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A BPF ring buffer in ordinary memory, written as the kernel writes it."""

from __future__ import annotations

import mmap
import os
import struct

from otelagent._native import ffi, lib
from otelagent.abi._generated import RecordKind
from otelagent.bpf.ring import Ring

BUSY, DISCARD = 1 << 31, 1 << 30
SAMPLE = struct.Struct("=QQQIIHHI16s")
TRACE_TAIL = struct.Struct("=QIIQHHHHII")


def sample(hash_, time_ns=1, pid=7, tid=8, comm=b"work", weight=10, flags=0, kind=1):
    return SAMPLE.pack(hash_, time_ns, weight, pid, tid, kind, 0, flags, comm)


def trace(hash_, kernel=(), user=(), kind=RecordKind.TRACE, **fields):
    words = [*kernel, *(word for frame in user for word in frame)]
    head = sample(hash_, kind=kind, **fields)
    tail = TRACE_TAIL.pack(0, 0, 7, 0, len(kernel), len(user), 0, 0, 0, 0)
    return head + tail + struct.pack(f"={len(words)}Q", *words)


class FakeRing:
    """The producer's end; `ring` is the consumer under test."""

    def __init__(self, size=4096, start=0):
        self.size = size
        self.data = ffi.new("u8[]", 2 * size)
        self.consumer = ffi.new("u64 *", start)
        self.producer = ffi.new("u64 *", start)
        handle = lib.oa_ring_from_memory(self.consumer, self.producer, self.data, size)
        if not handle:
            raise MemoryError
        self.ring = Ring(handle, -1)

    def put(self, record, flags=0, size=None):
        """Append a record; the memory appears twice, as the kernel maps it."""
        at = self.producer[0]
        self.write(at, struct.pack("=II", (len(record) if size is None else size) | flags, 0))
        self.write(at + 8, record)
        self.producer[0] = at + (len(record) + 8 + 7) // 8 * 8
        return at

    def write(self, at, data):
        for byte in data:
            place = at % self.size
            self.data[place] = self.data[place + self.size] = byte
            at += 1


class MappedRing(FakeRing):
    """The same in a file, laid out as the kernel's: a page each for both ends, the data twice."""

    def __init__(self, size=8192):
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * size)
        self._memory = mmap.mmap(self.fd, 0)
        memory = ffi.from_buffer("u8[]", self._memory, require_writable=True)
        self.consumer = ffi.cast("u64 *", memory)
        self.producer = ffi.cast("u64 *", memory + mmap.PAGESIZE)
        self.data = memory + 2 * mmap.PAGESIZE
        self._held = memory
        error = ffi.new("s32 *")
        handle = lib.oa_ring_open(self.fd, size, error)
        if error[0]:
            raise OSError(-error[0], os.strerror(-error[0]))
        self.ring = Ring(handle, self.fd)
