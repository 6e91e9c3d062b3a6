# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files with code, once each: identity, unwind rows in the pool, what interpreter it is.

A file is known by device and inode, checked against size and modification time
where it can be looked at; several inodes with the same content share one FileID
and one set of rows. What no process maps any more stays for the next process, with its rows,
up to a number of files and of rows. Files stay open for their names, since a path may lead
elsewhere by then, up to a number.
"""

from __future__ import annotations

import logging
import mmap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from otelagent import log, metrics
from otelagent.errors import AgentError, BadElf, TargetError
from otelagent.formats.elf import BytesSource, ElfFile, Source
from otelagent.log import fields
from otelagent.model import Executable, FileId
from otelagent.unwind.file_id import file_id
from otelagent.unwind.jit import has_v8

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.formats.elf import Segment
    from otelagent.interpreters.registry import Detected
    from otelagent.processes.rowstore import RowStore, Stored
    from otelagent.unwind.extract import RowTable

logger = logging.getLogger(__name__)
MAX_INODES = 8192
"""Inodes that are remembered; beyond, those that nobody maps are forgotten."""
MAX_LEFT = 256
"""Files that nobody maps: tools come again and again, and what was sampled of a file is named
in the next report. Each takes some 5 KB and a descriptor; where programs are built, each is new."""
MAX_OPEN = 512
MAX_IDLE_ROWS = 2 << 20
"""Rows (4 bytes each) that stay when nobody maps their files: compilers come again and again."""
PAGE_BYTES = mmap.PAGESIZE


class ClosableSource(Source, Protocol):
    """An open file."""

    def close(self) -> None:
        """Give the descriptor back."""
        ...


@runtime_checkable
class Parkable(Protocol):
    """A source whose descriptor can be given back until it is read again."""

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        ...

    def park(self) -> None:
        """Give the descriptor back."""
        ...


@dataclass(slots=True, eq=False)
class Loaded:
    """A file with code that some process maps or mapped.

    Attributes:
        key: FileID's first 64 bits, what BPF knows the file by.
        segments: PT_LOAD segments with code.
        source: The file; kept open, for names, also when it is deleted, while there is room.
        interpreter: What interpreter it is, if it is one that can be unwound.
        reason: Why it has no rows; empty if it has.
        pid: A process that mapped it; it may have ended.
    """

    key: int
    executable: Executable
    segments: tuple[Segment, ...]
    source: Source
    elf: ElfFile
    table: RowTable | None = None
    stored: Stored | None = None
    users: int = 0
    interpreter: Detected | None = None
    reason: str = ""
    pid: int = 0
    is_recognised: bool = False
    _keeps_frames: bool | None = None

    @property
    def keeps_frames(self) -> bool:
        """Whether it makes code at run time that always keeps frame pointers: V8.

        Its names are read when first asked for, that is for a process with such code.
        """
        if self._keeps_frames is None:
            try:
                self._keeps_frames = has_v8(self.elf)
            except TargetError:
                self._keeps_frames = False
        return self._keeps_frames

    def bias_of(self, start: int, offset: int) -> int:
        """Address minus ELF address of a mapping that begins at `start` with file `offset`.

        Whole pages are mapped, so a mapping may begin before its segment: by less than
        this machine's page (64 KiB on some arm64 kernels), whatever `p_align` says.

        Raises:
            BadElf: No segment with code covers that offset.
        """
        for segment in self.segments:
            first = segment.offset & -PAGE_BYTES
            if first <= offset < segment.offset + segment.filesz:
                return start - (segment.vaddr - segment.offset + offset)
        raise BadElf(f"no code segment at file offset {offset:#x}")

    def code_at(self, addr: int, size: int) -> tuple[int, int, int] | None:
        """Where code at an ELF address lies: (descriptor, file offset, bytes up to `size`).

        None if it is none, or the file is gone. The descriptor stays the file's.
        """
        for segment in self.segments:
            offset = segment.offset + addr - segment.vaddr
            left = segment.offset + segment.filesz - offset
            if segment.offset & -PAGE_BYTES <= offset and left > 0:
                # Reading opens a file that was parked. The vDSO has no descriptor.
                is_there = self.source.read_at(offset, 1) and self.elf.descriptor >= 0
                return (self.elf.descriptor, offset, min(size, left)) if is_there else None
        return None


@dataclass(slots=True)
class Executables:
    """All of them; the processes thread is its only user, but for `by_key`.

    Attributes:
        max_open: Descriptors of files that are kept at most.
        by_inode: (major, minor, inode) → (size, mtime ns) and the file.
        left: Files that nobody maps, by key, the one left longest ago first.
        idle: Those of them that have rows.
        on_recognised: Told of each file when it is known what it is, before its rows are loaded.
    """

    store: RowStore
    load_rows: Callable[[Source, ElfFile], RowTable]
    detect: Callable[[ElfFile], Detected | None]
    max_open: int = MAX_OPEN
    by_inode: dict[tuple[int, int, int], tuple[tuple[int, int], Loaded]] = field(
        default_factory=dict
    )
    by_key: dict[int, Loaded] = field(default_factory=dict)
    left: dict[int, Loaded] = field(default_factory=dict)
    idle: dict[int, Loaded] = field(default_factory=dict)
    on_recognised: Callable[[Loaded], None] = lambda _loaded: None
    load_ns: int = 0

    def known(self, identity: tuple[int, int, int]) -> Loaded | None:
        """Find a file by (major, minor, inode) without opening anything."""
        found = self.by_inode.get(identity)
        if found is None:
            return None
        self._keep_longer(found[1])
        return found[1]

    def _keep_longer(self, loaded: Loaded) -> None:
        """Let a file that nobody maps be the last of those to be forgotten."""
        if loaded.users <= 0:
            self.left.pop(loaded.key, None)
            self.left[loaded.key] = loaded

    def add(
        self,
        identity: tuple[int, int, int],
        path: str,
        source: ClosableSource,
        stamp: tuple[int, int],
    ) -> Loaded:
        """Identify a file that was opened; `source` is taken over.

        Raises:
            BadElf: It is not an ELF file that can be handled.
        """
        found = self.by_inode.get(identity)
        if found is not None and found[0] == stamp:
            source.close()
            self._keep_longer(found[1])
            return found[1]
        loaded = None
        try:
            loaded = self._identify(path, source)
        finally:
            if loaded is None or loaded.source is not source:
                source.close()
        if identity[2]:
            if len(self.by_inode) >= MAX_INODES:
                self.by_inode = {k: v for k, v in self.by_inode.items() if v[1].users > 0}
            self.by_inode[identity] = (stamp, loaded)
        self._keep_longer(loaded)
        self._park()
        self._forget_left()
        return loaded

    def _forget_left(self) -> None:
        """Forget files that nobody maps if there are too many, those left first; most may stay."""
        if len(self.left) <= MAX_LEFT:
            return
        gone = set()
        while len(self.left) > MAX_LEFT * 3 // 4:
            loaded = self.left.pop(next(iter(self.left)))
            gone.add(loaded.key)
            self.idle.pop(loaded.key, None)
            self._unload(loaded)
            self.by_key.pop(loaded.key, None)
            if isinstance(loaded.source, Parkable):
                loaded.source.park()
        self.by_inode = {k: v for k, v in self.by_inode.items() if v[1].key not in gone}

    def _park(self) -> None:
        """Give descriptors back when there are too many: first of files that nobody maps."""
        if len(self.by_key) <= self.max_open:
            return
        held = [
            (each.users > 0, at, each.source)
            for at, each in enumerate(self.by_key.values())
            if isinstance(each.source, Parkable) and each.source.is_open
        ]
        held.sort(key=lambda one: one[:2])
        for _, _, source in held[: max(len(held) - self.max_open, 0)]:
            source.park()

    def add_vdso(self, data: bytes) -> Loaded:
        """Identify the vDSO by the bytes in our own memory: every process has the same."""
        return self._identify("[vdso]", BytesSource(data))

    def _identify(self, path: str, source: Source) -> Loaded:
        elf = ElfFile(source)
        identity: FileId = file_id(source)
        key = int.from_bytes(identity[:8], "big") or 1
        found = self.by_key.get(key)
        while found is not None and found.executable.file_id != identity:
            key += 1  # another file with the same first 64 bits
            found = self.by_key.get(key)
        if found is not None:
            return found
        segments = tuple(elf.executable_loads())
        start = min((s.vaddr for s in segments), default=0)
        loaded = Loaded(
            key=key,
            executable=Executable(
                identity,
                path,
                build_id=elf.build_id,
                go_build_id=elf.go_build_id,
                text_start=start,
                text_end=max((s.vaddr + s.memsz for s in segments), default=0),
                text_offset=next((s.offset for s in segments if s.vaddr == start), 0),
            ),
            segments=segments,
            source=source,
            elf=elf,
        )
        self.by_key[key] = loaded
        return loaded

    def acquire(self, loaded: Loaded) -> None:
        """Count one more mapping of the file; the first one puts its rows into the pool."""
        loaded.users += 1
        self.left.pop(loaded.key, None)
        self.idle.pop(loaded.key, None)
        self.by_key.setdefault(loaded.key, loaded)  # it may have been forgotten since it was found
        if loaded.stored is not None or loaded.reason:
            return
        began = time.monotonic_ns()
        self.recognise(loaded)
        try:
            if loaded.table is None:
                loaded.table = self.load_rows(loaded.source, loaded.elf)
            loaded.stored = self._store(loaded.key, loaded.table)
        except TargetError as err:
            loaded.reason = str(err)
            metrics.mapping_failed.add(reason=type(err).__name__)
            logger.info(
                "%s", fields("no unwind rows", file=loaded.executable.path, reason=loaded.reason)
            )
        finally:
            loaded.table = None
            loaded.elf.rest()
            self.load_ns += time.monotonic_ns() - began

    def _store(self, key: int, table: RowTable) -> Stored:
        try:
            return self.store.load(key, table)
        except TargetError:
            if not self.idle:
                raise
            self._forget_idle(0)
            return self.store.load(key, table)

    def recognise(self, loaded: Loaded) -> None:
        """Find out what kind of file it is; once."""
        if loaded.is_recognised:
            return
        loaded.is_recognised = True
        try:
            found = self.detect(loaded.elf)
        except TargetError as err:
            log.once(
                *(logger, loaded.key, "its interpreter is not unwound, its native frames are"),
                file=loaded.executable.path,
                reason=err,
            )
            return
        if found is not None:
            loaded.interpreter = found
        self.on_recognised(loaded)

    def release(self, loaded: Loaded) -> None:
        """Count one mapping less; after the last one the file stays until there are too many."""
        loaded.users -= 1
        if loaded.users > 0:
            return
        self._keep_longer(loaded)
        if loaded.stored is not None:
            self.idle[loaded.key] = loaded
            self._forget_idle(MAX_IDLE_ROWS)
        self._forget_left()

    def _forget_idle(self, most: int) -> None:
        rows = sum(each.stored.rows for each in self.idle.values() if each.stored)
        while rows > most:
            loaded = self.idle.pop(next(iter(self.idle)))
            rows -= loaded.stored.rows if loaded.stored else 0
            self._unload(loaded)

    def _unload(self, loaded: Loaded) -> None:
        if loaded.stored is None:
            return
        try:
            self.store.unload(loaded.stored)
        except AgentError as err:
            logger.warning("%s", fields("rows not freed", error=err))
        loaded.stored = None
