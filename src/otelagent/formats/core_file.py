# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""ELF core files: what they say of a process, its threads, memory and files.

Written by the kernel (fs/binfmt_elf.c) or by gdb's gcore. Nothing in it is
believed: each size and count has a cap, what is cut off is told in `problems`, and
what is left is given.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from otelagent.errors import BadElf, FormatError
from otelagent.formats.elf import ET_CORE, PT_LOAD, PT_NOTE, ElfFile
from otelagent.formats.registers import parse_registers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.formats.elf import Source
    from otelagent.formats.registers import Registers

MAX_SEGMENTS = 1 << 18
MAX_NOTES = 1 << 18
MAX_FILES = 1 << 16
MAX_FILE_NOTE_BYTES = 16 << 20
MAX_THREADS = 1 << 16
_PIECE_BYTES = 256 << 10
_PN_XNUM = 0xFFFF
_TOP = 1 << 56

NT_PRSTATUS, NT_PRPSINFO, NT_AUXV = 1, 3, 6
NT_FILE, NT_ARM_TLS, NT_ARM_PAC_MASK = 0x46494C45, 0x401, 0x406
AT_SYSINFO_EHDR = 33

_SEGMENT = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_STATUS_REGS = 112  # offsetof(struct elf_prstatus, pr_reg), include/linux/elfcore.h
_FILE_ENTRY = struct.Struct("<QQQ")


class LoadSegment(NamedTuple):
    """A range of memory: `filesz` bytes of it are in the core file from `offset` on."""

    start: int
    end: int
    offset: int
    filesz: int
    flags: int


class CoreMapping(NamedTuple):
    """A range of memory that a file was mapped into (NT_FILE); `offset` in bytes."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(slots=True)
class CoreThread:
    """A thread; `signal` is the one that it was ended by, or 0."""

    tid: int
    signal: int
    data: bytes
    thread_pointer: int = 0

    def registers(self, machine: int) -> Registers | None:
        """Read its registers; None if they are not all there."""
        return parse_registers(machine, self.data, self.thread_pointer)


@dataclass(slots=True)
class CoreFile:
    """What a core file holds, but for the memory itself.

    Attributes:
        machine: EM_* of the process.
        pid: Of the process; 0 if it is not told.
        name: Of the program, at most 15 bytes.
        arguments: The start of its command line.
        threads: The one that was ended by a signal comes first.
        segments: By address, without overlaps.
        mappings: By address, without overlaps.
        vdso: Address of the vDSO, or 0.
        pac_mask: Bits of arm64's signatures in return addresses; None if it is not told.
        problems: What is missing or wrong, for people.
    """

    machine: int
    pid: int = 0
    name: str = ""
    arguments: str = ""
    threads: list[CoreThread] = field(default_factory=list)
    segments: list[LoadSegment] = field(default_factory=list)
    mappings: list[CoreMapping] = field(default_factory=list)
    vdso: int = 0
    pac_mask: int | None = None
    problems: list[str] = field(default_factory=list)


def parse_core(source: Source) -> CoreFile:
    """Read a core file.

    Raises:
        FormatError: It is none, or one whose headers are not there.
    """
    try:
        elf = ElfFile(source)
    except BadElf as err:
        raise FormatError(f"not a core file: {err}") from err
    if elf.type != ET_CORE:
        raise FormatError("not a core file, but another kind of ELF file")
    core = CoreFile(elf.machine)
    headers = list(_headers(source, core))
    _take_segments(core, headers)
    notes = 0
    for kind, _, offset, _, _, filesz, _, _ in headers:
        if kind == PT_NOTE:
            for note, data in _iter_notes(source, offset, filesz, MAX_NOTES - notes):
                notes += 1
                _take_note(core, note, data)
    if notes >= MAX_NOTES:
        core.problems.append(f"it has more than {MAX_NOTES} notes: the rest was left out")
    _check(core, headers, source.size)
    return core


def _headers(source: Source, core: CoreFile) -> Iterator[tuple[int, ...]]:
    """Go through the program headers that are in the file."""
    head = source.read_at(0, 64)
    offset, sections = struct.unpack_from("<QQ", head, 32)
    size, count, section_size = struct.unpack_from("<HHH", head, 54)
    if count == _PN_XNUM and section_size == 64:
        # The count is in sh_info of section 0 (include/uapi/linux/elf.h: PN_XNUM).
        first = source.read_at(sections, 64)
        count = struct.unpack_from("<I", first, 44)[0] if len(first) == 64 else 0
    if size != _SEGMENT.size:
        raise FormatError("not a core file: its program headers are of another kind")
    if count > MAX_SEGMENTS:
        core.problems.append(f"it has {count} segments: those beyond {MAX_SEGMENTS} were left out")
        count = MAX_SEGMENTS
    table = source.read_at(offset, count * _SEGMENT.size)
    found = len(table) // _SEGMENT.size
    if found < count:
        core.problems.append(f"only {found} of its {count} program headers are there")
    yield from _SEGMENT.iter_unpack(table[: found * _SEGMENT.size])


def _take_segments(core: CoreFile, headers: list[tuple[int, ...]]) -> None:
    loads = sorted((h[3], h) for h in headers if h[0] == PT_LOAD)
    at = 0
    for start, (_, flags, offset, _, _, filesz, memsz, _) in loads:
        end = start + memsz
        if start < at or end > _TOP or start >= end or filesz > memsz or offset >= 1 << 62:
            if start < _TOP:  # the vsyscall page lies above
                core.problems.append(f"the segment at {start:#x} makes no sense: it was left out")
            continue
        core.segments.append(LoadSegment(start, end, offset, filesz, flags))
        at = end


def _iter_notes(source: Source, offset: int, size: int, most: int) -> Iterator[tuple[int, bytes]]:
    """Go through notes: type, descriptor. Of long ones only the start is read."""
    end = min(offset + size, source.size)
    piece, base = b"", offset
    for _ in range(most):
        if offset + _NOTE.size > end:
            return
        if not base <= offset <= base + len(piece) - 1024:
            base, piece = offset, source.read_at(offset, min(_PIECE_BYTES, end - offset))
        if len(piece) < offset - base + _NOTE.size:
            return
        name_size, data_size, kind = _NOTE.unpack_from(piece, offset - base)
        data_at = offset + _NOTE.size + (name_size + 3 & -4)
        wanted = min(data_size, MAX_FILE_NOTE_BYTES if kind == NT_FILE else 1024)
        if data_at + wanted <= base + len(piece):
            yield kind, piece[data_at - base : data_at - base + wanted]
        else:
            yield kind, source.read_at(data_at, min(wanted, max(end - data_at, 0)))
        offset = data_at + (data_size + 3 & -4)


def _take_note(core: CoreFile, kind: int, data: bytes) -> None:
    if kind == NT_PRSTATUS and len(data) >= _STATUS_REGS and len(core.threads) < MAX_THREADS:
        (signal,) = struct.unpack_from("<H", data, 12)
        (tid,) = struct.unpack_from("<I", data, 32)
        core.threads.append(CoreThread(tid, signal, data[_STATUS_REGS:]))
    elif kind == NT_ARM_TLS and len(data) >= 8 and core.threads:
        core.threads[-1].thread_pointer = int.from_bytes(data[:8], "little")
    elif kind == NT_ARM_PAC_MASK and len(data) >= 16:
        # struct user_pac_mask: of data, then of instructions
        core.pac_mask = int.from_bytes(data[8:16], "little")
    elif kind == NT_PRPSINFO and len(data) >= 136:
        (core.pid,) = struct.unpack_from("<I", data, 24)
        core.name = _text(data[40:56])
        core.arguments = _text(data[56:136]).strip()
    elif kind == NT_AUXV:
        for key, value in struct.iter_unpack("<QQ", data[: len(data) & ~15]):
            if key == AT_SYSINFO_EHDR:
                core.vdso = value
    elif kind == NT_FILE and not core.mappings:
        core.mappings = list(_parse_files(core, data))


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def _parse_files(core: CoreFile, data: bytes) -> Iterator[CoreMapping]:
    """Read NT_FILE: a count, the unit of offsets, ranges, then as many names."""
    if len(data) < 16:
        return
    count, unit = struct.unpack_from("<QQ", data)
    room = (len(data) - 16) // _FILE_ENTRY.size
    if count > min(MAX_FILES, room):
        core.problems.append(f"its list of files claims {count} entries: it was left out")
        return
    names_at = 16 + count * _FILE_ENTRY.size
    names = data[names_at:].split(b"\0")
    at = 0
    ranges = _FILE_ENTRY.iter_unpack(data[16:names_at])
    for (start, end, offset), name in sorted(zip(ranges, names, strict=False)):
        in_bytes = offset * unit
        if start < at or start >= end or end > _TOP or in_bytes >= 1 << 62:
            core.problems.append(f"the mapping at {start:#x} makes no sense: it was left out")
            continue
        yield CoreMapping(start, end, in_bytes, name.decode("utf-8", "surrogateescape"))
        at = end


def _check(core: CoreFile, headers: list[tuple[int, ...]], size: int) -> None:
    """Say what is missing."""
    wanted = max((h[2] + h[5] for h in headers if h[5]), default=0)
    if wanted > size:
        core.problems.insert(0, f"the file is cut: {size} of {wanted} bytes are there")
    if not core.threads:
        core.problems.append("it says of no thread which registers that had")
    if not core.mappings:
        core.problems.append("it does not say which files were mapped")
