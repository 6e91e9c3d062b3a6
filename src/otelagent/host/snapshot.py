# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A sparse snapshot as an image (`host.image.ProcessImage`): only what an unwinder looked at.

It has the registers of all threads, the bytes of memory and the pieces of files
that were read when it was made (`otelagent.coredump`), in one packed file. Nothing
of the machine that it is read on is looked at. What it does not have cannot be
read: of memory that is a fault, of files zeros, and `strays` tells of it.
"""

from __future__ import annotations

import bisect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import msgspec

from otelagent.errors import FormatError, MemoryFault, TargetError
from otelagent.formats.proc_maps import MappedRange
from otelagent.formats.registers import Registers
from otelagent.host.image import ThreadImage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from otelagent.host.image import MemoryTaker

FORMAT = 1
MAX_UNPACKED_BYTES = 256 << 20
LEVEL = 19

Piece = tuple[int, bytes]
"""An address or offset, and the bytes there."""


class RegistersPart(msgspec.Struct, array_like=True):
    """`formats.registers.Registers`."""

    gp: tuple[int, ...]
    pc: int
    in_syscall: bool
    thread_pointer: int
    is_32_bit: bool


class ThreadPart(msgspec.Struct, array_like=True):
    """`host.image.ThreadImage`."""

    tid: int
    name: str
    state: str
    registers: RegistersPart | None
    kernel: tuple[str, ...]
    problem: str


class MapPart(msgspec.Struct, array_like=True):
    """`formats.proc_maps.MappedRange`."""

    start: int
    end: int
    offset: int
    major: int
    minor: int
    inode: int
    path: str


class FilePart(msgspec.Struct, array_like=True):
    """What was read of a file.

    `read` lists ranges (offset, size); `pieces` has their bytes, but for those that did
    not matter: they read as zeros.
    """

    path: str
    inode: int
    size: int
    read: list[tuple[int, int]]
    pieces: list[Piece]
    problem: str = ""


class Snapshot(msgspec.Struct, array_like=True):
    """All of a snapshot; `notes` are small files of its JIT compilers, by path."""

    format: int
    pid: int
    machine: int
    threads: list[ThreadPart]
    maps: list[MapPart]
    vdso: bytes
    memory: list[Piece]
    files: list[FilePart]
    notes: dict[str, bytes]
    pac_mask: int = 0


def pack(snapshot: Snapshot) -> bytes:
    """Make the bytes of a snapshot's file."""
    import zstandard  # noqa: PLC0415 (not needed for --help)

    raw = msgspec.msgpack.encode(snapshot)
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(raw)


def parse(data: bytes) -> Snapshot:
    """Read the bytes of a snapshot's file.

    Raises:
        FormatError: They are none, or of another format.
    """
    import zstandard  # noqa: PLC0415 (not needed for --help)

    try:
        stream = zstandard.ZstdDecompressor().stream_reader(data)
        raw = stream.read(MAX_UNPACKED_BYTES + 1)
        if len(raw) > MAX_UNPACKED_BYTES:
            raise FormatError("a snapshot is too large")
        found = msgspec.msgpack.decode(raw, type=Snapshot)
    except (zstandard.ZstdError, msgspec.MsgspecError) as err:
        raise FormatError(f"not a snapshot: {err}") from err
    if found.format != FORMAT:
        raise FormatError(f"a snapshot of format {found.format}; {FORMAT} is known")
    return found


class SparseFile:
    """What a snapshot has of a file (`host.image.OpenFile`)."""

    stands_alone = True
    """Nothing beside it may be looked at, such as debug files of this machine."""

    def __init__(self, part: FilePart, strays: list[str]) -> None:
        self._part = part
        self._starts = [offset for offset, _ in part.pieces]
        self._read_starts = [offset for offset, _ in part.read]
        self._strays = strays

    @property
    def size(self) -> int:
        """Length of the whole file."""
        return self._part.size

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes; zeros for what is not kept."""
        end = min(offset + size, self._part.size)
        if offset < 0 or offset >= end:
            return b""
        self._check(offset, end)
        data = bytearray(end - offset)
        at = max(bisect.bisect_right(self._starts, offset) - 1, 0)
        for start, piece in self._part.pieces[at:]:
            if start >= end:
                break
            low, high = max(start, offset), min(start + len(piece), end)
            if low < high:
                data[low - offset : high - offset] = piece[low - start : high - start]
        return bytes(data)

    def _check(self, offset: int, end: int) -> None:
        """Take note of a read of what was not read when the snapshot was made."""
        at = bisect.bisect_right(self._read_starts, offset) - 1
        start, size = self._part.read[at] if at >= 0 else (0, 0)
        if offset < start or end > start + size:
            self._strays.append(f"{self._part.path}: {end - offset} bytes at {offset:#x}")

    def close(self) -> None:
        """Nothing is open."""


class SnapshotImage:
    """A snapshot to unwind; `strays` tells what of files was wanted and is not there."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.pid = snapshot.pid
        self.machine = snapshot.machine
        self.pac_mask = snapshot.pac_mask
        self.strays: list[str] = []
        self._starts = [addr for addr, _ in snapshot.memory]
        self._files = {(each.path, each.inode): each for each in snapshot.files}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a snapshot's file.

        Raises:
            FormatError: It is none.
        """
        return cls(parse(path.read_bytes()))

    def read(self, addr: int, size: int) -> bytes:
        """Read exactly `size` bytes at `addr`; MemoryFault where they are not kept."""
        at = bisect.bisect_right(self._starts, addr) - 1
        if at >= 0:
            start, data = self.snapshot.memory[at]
            if size >= 0 and addr + size <= start + len(data):
                return data[addr - start : addr - start + size]
        raise MemoryFault(addr, size)

    def read_maps(self) -> list[MappedRange]:
        """List the executable mappings."""
        return [MappedRange(*msgspec.structs.astuple(each)) for each in self.snapshot.maps]

    def open_mapped(self, mapped: MappedRange) -> SparseFile:
        """Give what is kept of a file; TargetError with the reason of then if nothing is."""
        part = self._files.get((mapped.path, mapped.inode))
        if part is None or part.problem:
            raise TargetError(part.problem if part else f"{mapped.path} is not in the snapshot")
        return SparseFile(part, self.strays)

    def read_vdso(self) -> bytes:
        """Give the vDSO; TargetError if there was none."""
        if not self.snapshot.vdso:
            raise TargetError("the snapshot has no vDSO")
        return self.snapshot.vdso

    def lend_memory(self, taker: MemoryTaker) -> None:
        """Let C read the memory."""
        for addr, data in self.snapshot.memory:
            taker.add_memory(addr, data)

    @contextmanager
    def hold(self) -> Iterator[Sequence[ThreadImage]]:
        """Give the threads."""
        yield [_thread(each) for each in self.snapshot.threads]

    def close(self) -> None:
        """Nothing is open."""


def _thread(part: ThreadPart) -> ThreadImage:
    registers = Registers(*msgspec.structs.astuple(part.registers)) if part.registers else None
    return ThreadImage(part.tid, part.name, part.state, registers, part.kernel, part.problem)
