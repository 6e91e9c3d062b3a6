# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A core file as an image (`host.image.ProcessImage`), perhaps of another machine.

What the core does not hold of a file that was mapped is read from the file, if
that is the one that ran: its build id must be that in the core's memory.
"""

from __future__ import annotations

import bisect
import os
import signal as signals
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Self

from otelagent.errors import BadElf, FormatError, MemoryFault, TargetError
from otelagent.formats.core_file import parse_core
from otelagent.formats.elf import PF_X, ElfFile
from otelagent.formats.proc_maps import MappedRange
from otelagent.host.files import FileSource, open_file, open_target
from otelagent.host.image import ThreadImage
from otelagent.host.live import MACHINES
from otelagent.host.unpack import open_unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from otelagent.formats.core_file import CoreFile, CoreMapping, CoreThread
    from otelagent.host.image import MemoryTaker

MAX_READ_BYTES = 16 << 20
MAX_CODE_MAPPINGS = 4096
MAX_VDSO_BYTES = 1 << 20
MAX_OPEN = 1024


class Piece:
    """A range of memory and the part of a file that holds it."""

    __slots__ = ("end", "offset", "source", "start")

    def __init__(self, start: int, end: int, source: FileSource, offset: int) -> None:
        self.start, self.end, self.source, self.offset = start, end, source, offset


class CoreImage:
    """A core file. `open` makes one; `problems` says what of it is missing.

    Args:
        source: The core, unpacked; taken over.
        sysroot: Where the files of the process lie, as their root directory; None: here.
        debug_dirs: Where else files are looked for, by build id and by name.

    Raises:
        FormatError: It is no core file, or of a kind of machine that is not known.
    """

    def __init__(
        self, source: FileSource, *, sysroot: Path | None = None, debug_dirs: Sequence[Path] = ()
    ) -> None:
        self._source = source
        self._sysroot = sysroot
        self._debug_dirs = tuple(debug_dirs)
        self.core: CoreFile = parse_core(source)
        self.machine = self.core.machine
        if self.machine not in MACHINES.values():
            known = ", ".join(MACHINES)
            raise FormatError(f"a core of machine {self.machine} cannot be unwound, but of {known}")
        self.pac_mask = self.core.pac_mask or 0
        self.pid = self.core.pid or 1
        self.problems = self.core.problems
        self._files: dict[str, FileSource | str] = {}
        self._data: set[str] = set()  # paths of files that are there and no ELF files
        self._numbers: dict[str, int] = {}  # a core has no inodes
        self._heads = {m.path: m for m in reversed(self.core.mappings) if m.offset == 0}
        self._pieces = [
            Piece(s.start, s.start + s.filesz, source, s.offset)
            for s in self.core.segments
            if s.filesz
        ]
        self._dumped_starts = [piece.start for piece in self._pieces]
        self._dumped = self._pieces
        self._add_files()
        self._starts = [piece.start for piece in self._pieces]

    @classmethod
    def open(
        cls, path: str, *, sysroot: Path | None = None, debug_dirs: Sequence[Path] = ()
    ) -> Self:
        """Open a core file, which may be packed (zstd, xz).

        Raises:
            TargetError: It cannot be opened.
            FormatError: It is none.
        """
        source, problem = open_unpacked(path)
        try:
            image = cls(source, sysroot=sysroot, debug_dirs=debug_dirs)
        except FormatError as err:
            source.close()
            raise FormatError(f"{path}: {err}") from err
        if problem:
            image.problems.insert(0, problem)
        return image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def read(self, addr: int, size: int) -> bytes:
        """Read exactly `size` bytes at `addr`.

        Raises:
            MemoryFault: Neither the core nor a file has all of them.
        """
        if not 0 <= size <= MAX_READ_BYTES or addr < 0:
            raise MemoryFault(addr, size)
        return self._read(self._pieces, self._starts, addr, size)

    def _read(self, pieces: list[Piece], starts: list[int], addr: int, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            at = addr + len(found)
            index = bisect.bisect_right(starts, at) - 1
            if index < 0 or at >= pieces[index].end:
                raise MemoryFault(addr, size)
            piece = pieces[index]
            wanted = min(size - len(found), piece.end - at)
            data = piece.source.read_at(piece.offset + at - piece.start, wanted)
            if not data:
                raise MemoryFault(addr, size)
            found += data
        return bytes(found)

    def read_maps(self) -> list[MappedRange]:
        """List the executable mappings.

        gcore leaves out what files hold, as if it had not been mapped: whether that was
        code the files themselves tell.
        """
        known = self.core.segments
        code = (s for s in known if s.flags & PF_X)
        # One more than there may be, to know that there are more.
        found = [self._mapped(s.start, s.end) for s in islice(code, MAX_CODE_MAPPINGS + 1)]
        starts = [each.start for each in known]
        for mapping in self.core.mappings:
            at = bisect.bisect_left(starts, mapping.end) - 1
            is_segment = at >= 0 and known[at].end > mapping.start
            if not is_segment and len(found) <= MAX_CODE_MAPPINGS and self._may_be_code(mapping):
                found.append(self._mapped(mapping.start, mapping.end))
        if len(found) > MAX_CODE_MAPPINGS:
            self.problems.append(f"code beyond {MAX_CODE_MAPPINGS} mappings was left out")
        return sorted(found[:MAX_CODE_MAPPINGS], key=lambda each: each.start)

    def _may_be_code(self, mapping: CoreMapping) -> bool:
        try:
            loads = ElfFile(self._file(mapping.path)).executable_loads()
        except TargetError:
            return mapping.path not in self._data  # what is not there may name frames yet
        end = mapping.offset + mapping.end - mapping.start
        return any(s.offset < end and mapping.offset < s.offset + s.filesz for s in loads)

    def _mapped(self, start: int, end: int) -> MappedRange:
        if start <= self.core.vdso < end:
            return MappedRange(start, end, 0, 0, 0, 0, "[vdso]")
        mappings = self.core.mappings
        index = bisect.bisect_right(mappings, start, key=lambda each: each.start) - 1
        if index < 0 or start >= mappings[index].end:
            return MappedRange(start, end, 0, 0, 0, 0, "")
        file = mappings[index]
        number = 1 + self._numbers.setdefault(file.path, len(self._numbers))
        offset = file.offset + start - file.start
        return MappedRange(start, end, offset, 0, 0, number, file.path)

    def open_mapped(self, mapped: MappedRange) -> FileSource:
        """Open the file of a mapping, if it is the one that ran."""
        source = self._file(mapped.path)
        return FileSource(os.dup(source.fd))

    def _file(self, path: str) -> FileSource:
        """Open what was mapped as `path`, once; TargetError where it cannot be had."""
        found = self._files.get(path)
        if found is None:
            if len(self._files) >= MAX_OPEN:
                raise TargetError(f"{path} was not opened: there are too many files")
            try:
                found = self._find(path)
            except TargetError as err:
                found = str(err)  # an exception would keep whoever met it first alive
            self._files[path] = found
        if isinstance(found, str):
            raise TargetError(found)
        return found

    def _find(self, path: str) -> FileSource:
        """Look for the file that was mapped as `path`."""
        wanted = self._build_id(path)
        failure: TargetError | None = None
        for opened in self._candidates(path, wanted):
            if isinstance(opened, TargetError):
                failure = failure or opened
                continue
            try:
                build_id = ElfFile(opened).build_id
            except BadElf as err:
                failure = TargetError(f"{path}: {err}")
                self._data.add(path)
            else:
                if not wanted or build_id == wanted:
                    return opened
                failure = TargetError(f"{path} is another build than the one that ran ({wanted})")
            opened.close()
        raise failure or TargetError(f"{path} was not found")

    def _candidates(self, path: str, build_id: str) -> Iterator[FileSource | TargetError]:
        try:
            if self._sysroot:
                yield open_target(str(self._sysroot), path)
            else:
                yield open_file(path)
        except TargetError as err:
            yield err
        names = [path.rsplit("/", 1)[-1]]
        if len(build_id) > 4:
            names.insert(0, f".build-id/{build_id[:2]}/{build_id[2:]}")
        for folder in self._debug_dirs:
            for name in names:
                try:
                    yield open_file(f"{folder}/{name}")
                except TargetError as err:
                    yield err

    def _build_id(self, path: str) -> str:
        """Read a file's build id from the memory of the core; empty if it is not there."""
        mapping = self._heads.get(path)
        if mapping is None:
            return ""
        try:
            return ElfFile(_Dumped(self, mapping.start, mapping.end)).build_id
        except BadElf:
            return ""

    def _add_files(self) -> None:
        """Let files give what the core does not hold of them."""
        added: list[Piece] = []
        dumped = self._dumped
        for mapping in self.core.mappings:
            at = mapping.start
            index = max(bisect.bisect_right(self._dumped_starts, at) - 1, 0)
            gaps = []
            while at < mapping.end:
                while index < len(dumped) and dumped[index].end <= at:
                    index += 1
                until = min(
                    mapping.end, dumped[index].start if index < len(dumped) else mapping.end
                )
                if at < until:
                    gaps.append((at, until))
                at = max(until, dumped[index].end if index < len(dumped) else until)
            added += self._gaps(mapping.path, mapping.start - mapping.offset, gaps)
        self._pieces = sorted([*dumped, *added], key=lambda piece: piece.start)

    def _gaps(self, path: str, zero: int, gaps: list[tuple[int, int]]) -> Iterator[Piece]:
        if not gaps:
            return
        try:
            source = self._file(path)
        except TargetError:
            return
        for start, end in gaps:
            end = min(end, zero + source.size)  # noqa: PLW2901 (cut at the file's end)
            if start < end:
                yield Piece(start, end, source, start - zero)

    def read_vdso(self) -> bytes:
        """Read the vDSO from the core."""
        for segment in self.core.segments:
            if segment.start <= self.core.vdso < segment.end:
                size = min(segment.end - segment.start, MAX_VDSO_BYTES)
                return self.read(segment.start, size)
        raise TargetError("the core has no vDSO")

    def lend_memory(self, taker: MemoryTaker) -> None:
        """Let C read the core and the files."""
        for piece in self._pieces:
            size = min(piece.end - piece.start, max(piece.source.size - piece.offset, 0))
            if size:
                taker.add_file(piece.start, piece.source.fd, piece.offset, size)

    @contextmanager
    def hold(self) -> Iterator[Sequence[ThreadImage]]:
        """Give the threads."""
        yield [self._thread(each) for each in self.core.threads]

    def _thread(self, thread: CoreThread) -> ThreadImage:
        name = self.core.name if thread.tid == self.core.pid else ""
        registers = thread.registers(self.machine)
        problem = "" if registers else "its registers are not all there"
        return ThreadImage(thread.tid, name, _signal_name(thread.signal), registers, (), problem)

    def close(self) -> None:
        """Close the core and all files."""
        self._source.close()
        for found in self._files.values():
            if isinstance(found, FileSource):
                found.close()


class _Dumped:
    """The start of a mapped file as it lies in the core (a `Source`)."""

    def __init__(self, image: CoreImage, start: int, end: int) -> None:
        self._image = image
        self._start = start
        self.size = end - start

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes; none where the core lacks some."""
        size = min(size, self.size - offset)
        if offset < 0 or not 0 < size <= MAX_READ_BYTES:
            return b""
        image = self._image
        try:
            return image._read(image._dumped, image._dumped_starts, self._start + offset, size)  # noqa: SLF001
        except MemoryFault:
            return b""


def _signal_name(number: int) -> str:
    if not number:
        return ""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
