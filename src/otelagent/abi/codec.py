# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Records of the ring: bytes of the structs in `ebpf/oa_abi.h` into typed values."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from otelagent._native import ffi
from otelagent.abi._generated import FrameFlag, PythonKind, RecordKind

if TYPE_CHECKING:
    from collections.abc import Iterator

# struct oa_sample, struct oa_generation, and the rest of struct oa_trace
_TRACE = struct.Struct("=QQQIIHHI16sQIIQHHHHII")
_SAMPLE_OF = struct.Struct("=8xQ8xII2xH")  # of struct oa_sample and of struct oa_deep
_SAMPLE = struct.Struct("=QQQIIHHI16s")
_REPORT = struct.Struct("=QQQIIHHI")
_DEFERRED_BYTES = ffi.offsetof("struct oa_deferred", "stack")
_COPIES_AT = ffi.offsetof("struct oa_deferred", "stack_bytes")
_PROC_AT = ffi.offsetof("struct oa_deferred", "python")
_PROC_BYTES = ffi.sizeof("struct oa_python_proc")
_KIND_AT = ffi.offsetof("struct oa_python_proc", "kind")
_MINOR_AT = ffi.offsetof("struct oa_python_proc", "minor")
_COPY = struct.Struct("=QQII32s")  # struct oa_python_copy up to its memory
_MEMORY_BYTES = {PythonKind.PY_OBJECT: 128}
_CHAIN_BYTES = 80
_ADDRESS = (1 << 48) - 1
_KIND_BYTE = 8 + 48 // 8
"""Of a frame: both machines are little-endian."""


class Generation(NamedTuple):
    """`struct oa_generation`: which life of which process, as BPF tells it."""

    start_ns: int
    exec_id: int
    pid: int

    @property
    def before(self) -> Generation:
        """What stands for it until BPF has told."""
        return Generation(0, 0, self.pid)


class RawFrame(NamedTuple):
    """`struct oa_frame`, taken apart; `word` is its second half as it was."""

    file_or_object: int
    address: int
    kind: int
    is_return: bool
    guessed: bool
    word: int
    is_begin: bool = False

    @classmethod
    def of(cls, first: int, second: int) -> RawFrame:
        """Take the words of a frame apart."""
        flags = second >> 56
        return cls(
            first,
            second & _ADDRESS,
            second >> 48 & 0xFF,
            bool(flags >> FrameFlag.RETURN_BIT & 1),
            bool(flags >> FrameFlag.GUESSED_BIT & 1),
            second,
            bool(flags >> FrameFlag.BEGIN_BIT & 1),
        )


class RawTrace(NamedTuple):
    """`struct oa_trace` with its words: a stack as BPF made it, newest frame first.

    `space` is the number of the address space that it was walked with.
    """

    hash: int
    time_ns: int
    weight: int
    pid: int
    tid: int
    cpu: int
    flags: int
    comm: bytes
    generation: Generation
    fault_pc: int
    fault: int
    steps: int
    kernel: tuple[int, ...]
    user: bytes
    space: int = 0

    def frames(self) -> Iterator[RawFrame]:
        """Take the user frames apart."""
        return (RawFrame.of(*words) for words in self.words())

    def words(self) -> Iterator[tuple[int, int]]:
        """Give both words of each user frame, as they are."""
        return struct.iter_unpack("=QQ", self.user)

    def kinds(self) -> bytes:
        """Give the kind of each user frame, a byte each."""
        return self.user[_KIND_BYTE::16]


class Sample(NamedTuple):
    """`struct oa_sample`: a sample without its trace."""

    hash: int
    time_ns: int
    weight: int
    pid: int
    tid: int
    kind: int
    cpu: int
    flags: int
    comm: bytes


class Origin(NamedTuple):
    """Whose stack a deferred one is, and when it was taken (CLOCK_MONOTONIC ns)."""

    generation: Generation
    time_ns: int


class SampleOf(NamedTuple):
    """What tells a sample from all others."""

    time_ns: int
    pid: int
    tid: int
    cpu: int


class PythonCopies(NamedTuple):
    """The CPython of a deferred stack, and its code objects: address and bytes at `code_block`.

    `interpreters` is the address where it lists them.
    """

    generation: Generation
    interpreters: int
    minor: int
    codes: tuple[tuple[int, bytes], ...]


class Report(NamedTuple):
    """`struct oa_report`."""

    time_ns: int
    addr: int
    generation: Generation
    tid: int
    reason: int


def decode_trace(data: bytes | memoryview) -> RawTrace:
    """Decode a trace record.

    Raises:
        ValueError: Its counts do not fit its length.
    """
    if len(data) < _TRACE.size:
        raise ValueError("a trace record is too short")
    row = _TRACE.unpack_from(data)
    hash_, time_ns, weight, pid, tid, _, cpu, flags, comm = row[:9]
    start_ns, exec_id, owner, fault_pc, kernel_frames, user_frames, fault, steps = row[9:17]
    user_at = _TRACE.size + 8 * kernel_frames
    end = user_at + 16 * user_frames
    if end > len(data):
        raise ValueError("a trace record is shorter than its frames")
    kernel = struct.unpack_from(f"={kernel_frames}Q", data, _TRACE.size)
    generation = Generation(start_ns, exec_id, owner)
    user = bytes(data[user_at:end])
    return RawTrace(
        *(hash_, time_ns, weight, pid, tid, cpu, flags, comm, generation),
        *(fault_pc, fault, steps, kernel, user, row[17]),
    )


def encode_trace(trace: RawTrace) -> bytes:
    """Make the record again that `decode_trace` read."""
    kernel, user = trace.kernel, trace.user
    counts = (len(kernel), len(user) // 16, trace.fault, trace.steps, trace.space)
    head = _TRACE.pack(
        *(*trace[:5], RecordKind.TRACE, *trace[5:8]), *trace.generation, trace.fault_pc, *counts, 0
    )
    return b"".join((head, struct.pack(f"={len(kernel)}Q", *kernel), user))


def decode_origin(data: bytes | memoryview) -> Origin:
    """Decode the head of a trace or deferred stack.

    Raises:
        ValueError: It is too short.
    """
    if len(data) < _TRACE.size:
        raise ValueError("a deferred stack is too short")
    row = _TRACE.unpack_from(data)
    return Origin(Generation(row[9], row[10], row[11]), row[1])


def sample_of(data: bytes | memoryview) -> SampleOf:
    """Tell of which sample a deferred stack is, or what is deep of one."""
    return SampleOf(*_SAMPLE_OF.unpack_from(data))


def decode_python(data: bytes) -> PythonCopies | None:
    """Decode the Python frames of a deferred stack; None if it has none.

    Raises:
        ValueError: Its counts do not fit its length.
    """
    if len(data) < _DEFERRED_BYTES:
        raise ValueError("a deferred stack is too short")
    if not data[_PROC_AT + _MINOR_AT]:
        return None
    stack, other, copies = struct.unpack_from("=III", data, _COPIES_AT)
    start = _DEFERRED_BYTES + stack + other
    if start + copies > len(data):
        raise ValueError("a deferred stack is shorter than its frames")
    step = _COPY.size + _MEMORY_BYTES.get(data[_PROC_AT + _KIND_AT], _CHAIN_BYTES)
    rows = (_COPY.unpack_from(data, at) for at in range(start, start + copies - step + 1, step))
    codes = tuple((row[1], row[4]) for row in rows if row[1])
    (interpreters,) = struct.unpack_from("=Q", data, _PROC_AT)
    generation = decode_origin(data).generation
    return PythonCopies(generation, interpreters, data[_PROC_AT + _MINOR_AT], codes)


def decode_sample(data: bytes | memoryview) -> Sample:
    """Decode a sample record.

    Raises:
        ValueError: It is too short.
    """
    if len(data) < _SAMPLE.size:
        raise ValueError("a sample record is too short")
    return Sample(*_SAMPLE.unpack_from(data))


def decode_report(data: bytes | memoryview) -> Report:
    """Decode a report record.

    Raises:
        ValueError: It is too short.
    """
    if len(data) < _REPORT.size:
        raise ValueError("a report record is too short")
    time_ns, addr, start_ns, exec_id, pid, _, reason, tid = _REPORT.unpack_from(data)
    return Report(time_ns, addr, Generation(start_ns, exec_id, pid), tid, reason)
