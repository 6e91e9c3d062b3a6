# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""An image that notes what is read of another one, and keeps just that: a snapshot."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from otelagent.errors import MemoryFault, TargetError
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.host.snapshot import (
    FORMAT,
    FilePart,
    MapPart,
    Piece,
    RegistersPart,
    Snapshot,
    ThreadPart,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otelagent.formats.proc_maps import MappedRange
    from otelagent.host.image import MemoryTaker, OpenFile, ProcessImage, ThreadImage
    from otelagent.unwind.host import Tables

MAX_READS = 1 << 20
LINE_BYTES = 64
PAGE_BYTES = 4096
STACK_BYTES = 64 << 10
"""Of a thread's stack whole pages are kept, up to here: another unwinder may look beside."""
_STACK_REGISTER = {62: 7, 183: 31}
"""Number of the stack pointer among `Registers.gp`, by EM_*."""


def join(ranges: Iterable[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """Join ranges (start, end) that overlap or are at most `gap` apart."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


class NotingFile:
    """A file that notes what is read of it (`host.image.OpenFile`)."""

    stands_alone = True

    def __init__(self, mapped: MappedRange, source: OpenFile) -> None:
        self._mapped = mapped
        self._source = source
        self._ranges: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        """Length of the file."""
        return self._source.size

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes, and note it."""
        data = self._source.read_at(offset, size)
        if data:
            self._ranges.append((offset, offset + len(data)))
        return data

    def close(self) -> None:
        """Stay open: what was noted is read once more at the end."""

    def part(self) -> FilePart:
        """Give what was read."""
        ranges = join(self._ranges)
        pieces = [(start, self._source.read_at(start, end - start)) for start, end in ranges]
        read = [(start, end - start) for start, end in ranges]
        mapped = self._mapped
        return FilePart(mapped.path, mapped.inode, self.size, read, pieces)

    def end(self) -> None:
        """Close the file."""
        self._source.close()


class NotingImage:
    """Another image, seen through notes of what is read (`host.image.ProcessImage`).

    Args:
        image: The other one, which is held for as long as this one is used.
        threads: Its threads.
    """

    def __init__(self, image: ProcessImage, threads: Sequence[ThreadImage]) -> None:
        self._image = image
        self._threads = threads
        self.pid = image.pid
        self.machine = image.machine
        self.pac_mask = image.pac_mask
        self._reads: list[tuple[int, int]] = []
        self._maps: list[MappedRange] = []
        self._files: dict[tuple[str, int], NotingFile | str] = {}
        self._vdso = b""
        self._tables: Tables | None = None

    def read(self, addr: int, size: int) -> bytes:
        """Read memory, and note it."""
        data = self._image.read(addr, size)
        self._reads.append((addr, size))
        return data

    def read_maps(self) -> list[MappedRange]:
        """List the executable mappings."""
        self._maps = self._image.read_maps()
        return self._maps

    def open_mapped(self, mapped: MappedRange) -> NotingFile:
        """Open the file of a mapping; the same object for the same file."""
        key = (mapped.path, mapped.inode)
        found = self._files.get(key)
        if found is None:
            try:
                found = NotingFile(mapped, self._image.open_mapped(mapped))
            except TargetError as err:
                found = str(err)
            self._files[key] = found
        if isinstance(found, str):
            raise TargetError(found)
        return found

    def read_vdso(self) -> bytes:
        """Read the vDSO."""
        self._vdso = self._image.read_vdso()
        return self._vdso

    def lend_memory(self, taker: MemoryTaker) -> None:
        """Let C read what the other image lets it read, and note it."""
        self._image.lend_memory(taker)
        self._tables = cast("Tables", taker)
        self._tables.note_reads(MAX_READS)

    @contextmanager
    def hold(self) -> Iterator[Sequence[ThreadImage]]:
        """Give the threads, which are held."""
        yield self._threads

    def close(self) -> None:
        """Close the files; the other image stays open."""
        for each in self._files.values():
            if isinstance(each, NotingFile):
                each.end()

    def snapshot(self) -> Snapshot:
        """Give what was read so far."""
        files = [
            each.part() if isinstance(each, NotingFile) else FilePart(*key, 0, [], [], each)
            for key, each in self._files.items()
        ]
        return Snapshot(
            *(FORMAT, self.pid, self.machine),
            [_thread_part(each) for each in self._threads],
            [
                MapPart(m.start, m.end, m.offset, m.major, m.minor, m.inode, m.path)
                for m in self._maps
            ],
            _anonymous(self._vdso),
            self._memory(),
            files,
            {},
            self.pac_mask,
        )

    def _memory(self) -> list[Piece]:
        by_unwinder = self._tables.noted_reads() if self._tables else []
        lines = [
            (addr // LINE_BYTES * LINE_BYTES, -(-(addr + size) // LINE_BYTES) * LINE_BYTES)
            for addr, size in (*self._reads, *by_unwinder)
        ]
        lines += self._stack_pages({addr // PAGE_BYTES for addr, _ in by_unwinder})
        pieces = []
        for start, end in join(lines, LINE_BYTES * 2):
            try:
                pieces.append((start, self._image.read(start, end - start)))
            except MemoryFault:  # the gap between two lines
                inner = join(each for each in lines if start <= each[0] < end)
                pieces += [(low, self._image.read(low, high - low)) for low, high in inner]
        return pieces

    def _stack_pages(self, read: set[int]) -> Iterator[tuple[int, int]]:
        for thread in self._threads:
            if thread.registers is None:
                continue
            top = thread.registers.gp[_STACK_REGISTER[self.machine]]
            for page in range(top // PAGE_BYTES, (top + STACK_BYTES) // PAGE_BYTES):
                if page in read:
                    yield max(page * PAGE_BYTES, top - LINE_BYTES * 2), (page + 1) * PAGE_BYTES


def _anonymous(vdso: bytes) -> bytes:
    """Take the build id out of a vDSO: the debug file of it is this machine's."""
    build_id = bytes.fromhex(ElfFile(BytesSource(vdso)).build_id) if vdso else b""
    note = b"GNU\0" + build_id
    return vdso.replace(note, bytes(len(note))) if build_id else vdso


def _thread_part(thread: ThreadImage) -> ThreadPart:
    r = thread.registers
    registers = (
        RegistersPart(r.gp, r.pc, r.in_syscall, r.thread_pointer, r.is_32_bit) if r else None
    )
    return ThreadPart(
        thread.tid, thread.name, thread.state, registers, thread.kernel, thread.problem
    )
