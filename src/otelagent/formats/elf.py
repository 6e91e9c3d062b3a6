# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""ELF headers, sections, notes and named symbols, read piece by piece.

Nothing is mapped: the file may be truncated while it is read, and a mapped
page of it would then kill the agent. Only 64-bit little-endian files; every
size and count in the file is taken as a claim that may be false.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from otelagent.errors import BadElf
from otelagent.formats.elf_sections import iter_notes, symbols_named, unpack_section

if TYPE_CHECKING:
    from collections.abc import Iterator

EM_X86_64 = 62
EM_AARCH64 = 183
ELFDATA2MSB = 2
ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_TLS, PT_GNU_EH_FRAME = 1, 2, 4, 7, 0x6474E550
PF_X, PF_W, PF_R = 1, 2, 4
SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM = 2, 3, 7, 8, 11
SHF_EXECINSTR, SHF_COMPRESSED = 4, 0x800
DT_STRTAB, DT_SYMTAB, DT_SONAME, DT_STRSZ, DT_HASH, DT_GNU_HASH = 5, 6, 14, 10, 4, 0x6FFFFEF5

MAX_SECTIONS = 65_536
MAX_SEGMENTS = 4_096
MAX_SECTION_BYTES = 1 << 30
MAX_SYMBOL_BYTES = 256 << 20
MAX_NOTE_BYTES = 1 << 20

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")


class Source(Protocol):
    """Bytes that can be read at an offset: an open file, or bytes in memory."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes at `offset`; fewer at the end."""
        ...


class BytesSource:
    """A `Source` over bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Cut a piece out of the bytes."""
        return self._data[offset : offset + size]


class Segment(NamedTuple):
    """A program header. Files have dozens: named tuples are made in a third of the time."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header, with its name."""

    index: int
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    entsize: int


@dataclass(frozen=True, slots=True)
class ElfSymbol:
    """An entry of a symbol table; `type` is STT_*, `section` an index or SHN_*."""

    name: str
    value: int
    size: int
    type: int
    bind: int
    section: int


def _text(data: bytes, start: int) -> str:
    end = data.find(b"\0", start)
    return data[start : end if end >= 0 else len(data)].decode("utf-8", "replace")


class ElfFile:
    """A parsed ELF file. Not to be shared between threads.

    Raises:
        BadElf: It is not a 64-bit little-endian ELF file, or its headers lie.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        raw = source.read_at(0, _HEADER.size)
        if len(raw) < _HEADER.size or raw[:4] != b"\x7fELF":
            raise BadElf("not an ELF file")
        if raw[5] == ELFDATA2MSB:
            raise BadElf("a big-endian ELF file: only little-endian machines are supported")
        if raw[4:6] != b"\x02\x01":
            raise BadElf("not a 64-bit little-endian ELF file")
        fields = _HEADER.unpack(raw)
        self.type: int = fields[1]
        self.machine: int = fields[2]
        self.entry: int = fields[4]
        self._phoff, self._shoff = fields[5], fields[6]
        self._phentsize, self._phnum = fields[9], fields[10]
        self._shentsize, self._shnum, self._shstrndx = fields[11], fields[12], fields[13]
        self._section_names = b""

    def rest(self) -> None:
        """Forget the tables that were read; they are read again where they are wanted.

        They take some 10 KB, and most files are never asked again once their rows are there.
        """
        names = (
            "segments",
            "_section_headers",
            "sections",
            "_sections_by_name",
            "notes",
            "dynamic",
        )
        for name in names:
            self.__dict__.pop(name, None)
        self._section_names = b""

    @property
    def sections_offset(self) -> int:
        """File offset of the section headers (e_shoff)."""
        return int(self._shoff)

    @property
    def stands_alone(self) -> bool:
        """Whether nothing beside the file may be looked at: it is part of a snapshot."""
        return bool(getattr(self.source, "stands_alone", False))

    @property
    def descriptor(self) -> int:
        """The file's descriptor right after a read, -1 if it is none; others must not close it."""
        return int(getattr(self.source, "fd", -1))

    def read(self, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes of the file.

        Raises:
            BadElf: The file ends before.
        """
        if size < 0 or offset < 0 or offset + size > self.source.size:
            raise BadElf(f"{size} bytes at {offset:#x} lie outside of the file")
        data = self.source.read_at(offset, size)
        if len(data) != size:
            raise BadElf("the file was cut while it was read")
        return data

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """All program headers."""
        if not self._phnum:
            return ()
        if self._phentsize != _SEGMENT.size or self._phnum > MAX_SEGMENTS:
            raise BadElf("bad program header table")
        table = self.read(self._phoff, self._phnum * _SEGMENT.size)
        return tuple(
            Segment(kind, flags, offset, vaddr, filesz, memsz, align)
            for kind, flags, offset, vaddr, _, filesz, memsz, align in _SEGMENT.iter_unpack(table)
        )

    @cached_property
    def _section_headers(self) -> list[tuple[int, ...]]:
        count, strings_index = self._shnum, self._shstrndx
        if not self._shoff or self._shentsize != _SECTION.size:
            return []
        if self._shoff + _SECTION.size > self.source.size:
            return []
        if count == 0 or strings_index == 0xFFFF:  # extended numbering: in section 0
            first = _SECTION.unpack(self.read(self._shoff, _SECTION.size))
            count = count or first[5]
            strings_index = first[6] if strings_index == 0xFFFF else strings_index
        if count > MAX_SECTIONS or self._shoff + count * _SECTION.size > self.source.size:
            return []
        rows = list(_SECTION.iter_unpack(self.read(self._shoff, count * _SECTION.size)))
        if strings_index < count and rows[strings_index][5] <= MAX_NOTE_BYTES * 16:
            names = self.source.read_at(rows[strings_index][4], rows[strings_index][5])
            self._section_names = names + b"\0"
        return rows

    def _make_section(self, index: int) -> Section:
        r = self._section_headers[index]
        name = _text(self._section_names, r[0])
        return Section(index, name, r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[9])

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All section headers; empty if the table is missing or does not fit the file."""
        return tuple(map(self._make_section, range(len(self._section_headers))))

    @cached_property
    def _sections_by_name(self) -> dict[bytes, int]:
        """Name → index of the first such section that has bytes in the file."""
        headers, found = self._section_headers, dict[bytes, int]()
        names = self._section_names
        for index, header in enumerate(headers):
            if header[1] != SHT_NOBITS:
                found.setdefault(names[header[0] : names.find(b"\0", header[0])], index)
        return found

    def section(self, name: str) -> Section | None:
        """Find the first section of that name that has bytes in the file."""
        index = self._sections_by_name.get(name.encode())
        return None if index is None else self._make_section(index)

    def section_data(self, section: Section) -> bytes:
        """Read a section, unpacked if it is packed (zlib, zstd).

        Raises:
            BadElf: It lies outside of the file, is too large or not decodable.
        """
        if section.size > MAX_SECTION_BYTES:
            raise BadElf(f"section {section.name} claims {section.size} bytes")
        data = self.read(section.offset, section.size)
        if not section.flags & SHF_COMPRESSED:
            return data
        return unpack_section(section.name, data, MAX_SECTION_BYTES)

    def loads(self) -> Iterator[Segment]:
        """Iterate over PT_LOAD segments in file order."""
        return (segment for segment in self.segments if segment.type == PT_LOAD)

    def executable_loads(self) -> list[Segment]:
        """List PT_LOAD segments with code."""
        return [segment for segment in self.loads() if segment.flags & PF_X]

    def offset_of(self, vaddr: int) -> int | None:
        """Turn an ELF address into a file offset; None if no segment's file part covers it."""
        for segment in self.loads():
            if segment.vaddr <= vaddr < segment.vaddr + segment.filesz:
                return vaddr - segment.vaddr + segment.offset
        return None

    def address_of(self, offset: int) -> int | None:
        """Turn a file offset into the ELF address that it is loaded at."""
        for segment in self.loads():
            if segment.offset <= offset < segment.offset + segment.filesz:
                return offset - segment.offset + segment.vaddr
        return None

    def read_address(self, vaddr: int, size: int) -> bytes:
        """Read `size` bytes at an ELF address.

        Raises:
            BadElf: They are not in the file.
        """
        offset = self.offset_of(vaddr)
        if offset is None:
            raise BadElf(f"address {vaddr:#x} is not in the file")
        return self.read(offset, size)

    @cached_property
    def notes(self) -> tuple[tuple[str, int, bytes], ...]:
        """All notes of PT_NOTE segments, else of SHT_NOTE sections: (name, type, descriptor)."""
        pieces = [(s.offset, s.filesz, s.align) for s in self.segments if s.type == PT_NOTE]
        # Sections are mostly parts of those segments.
        pieces += [
            (h[4], h[5], 4)
            for h in self._section_headers
            if h[1] == SHT_NOTE and not any(at <= h[4] < at + size for at, size, _ in pieces)
        ]
        found: dict[tuple[str, int, bytes], None] = {}
        for offset, size, align in pieces:
            data = self.source.read_at(offset, min(size, MAX_NOTE_BYTES))
            for note in iter_notes(data, 8 if align == 8 else 4):
                found[note] = None
        return tuple(found)

    @property
    def build_id(self) -> str:
        """GNU build id in hex, or empty."""
        return next((d.hex() for name, kind, d in self.notes if (name, kind) == ("GNU", 3)), "")

    @property
    def go_build_id(self) -> str:
        """Go's build id, or empty."""
        ids = (d.decode("ascii", "replace") for n, kind, d in self.notes if (n, kind) == ("Go", 4))
        return next(ids, "")

    @cached_property
    def dynamic(self) -> dict[int, int]:
        """Tags of PT_DYNAMIC → value (the first of each)."""
        tags: dict[int, int] = {}
        for segment in self.segments:
            if segment.type != PT_DYNAMIC:
                continue
            data = self.source.read_at(segment.offset, min(segment.filesz, MAX_NOTE_BYTES))
            for tag, value in struct.iter_unpack("<QQ", data[: len(data) & ~15]):
                if tag == 0:
                    break
                tags.setdefault(tag, value)
        return tags

    @property
    def soname(self) -> str:
        """DT_SONAME, or empty."""
        if DT_SONAME not in self.dynamic or DT_STRTAB not in self.dynamic:
            return ""
        offset = self.offset_of(self.dynamic[DT_STRTAB])
        if offset is None:
            return ""
        return _text(self.source.read_at(offset + self.dynamic[DT_SONAME], 256), 0)

    def symbol_tables(self) -> list[tuple[bytes, bytes]]:
        """Read (symbols, strings) of `.symtab` and `.dynsym`, those that are there."""
        return [
            (self.section_data(symbols), self.section_data(strings))
            for symbols, strings in self._symbol_sections()
        ]

    def _symbol_sections(self) -> list[tuple[Section, Section]]:
        headers, tables = self._section_headers, []
        for kind in (SHT_SYMTAB, SHT_DYNSYM):
            for index, (_, found, *_, size, link, _, _, _) in enumerate(headers):
                if found != kind or link >= len(headers):
                    continue
                strings = headers[link]
                if strings[1] == SHT_STRTAB and size + strings[5] <= MAX_SYMBOL_BYTES:
                    tables.append((self._make_section(index), self._make_section(link)))
        return tables

    def find_symbols(self, *names: str) -> dict[str, ElfSymbol]:
        """Look up defined symbols by their exact names; those that are there."""
        wanted = {name.encode(): name for name in names}
        found: dict[str, ElfSymbol] = {}
        for section, string_section in self._symbol_sections():
            strings = self.section_data(string_section)
            starts = {}
            for raw, name in wanted.items():
                at = strings.find(raw + b"\0")
                while at >= 0:  # linkers let a name be the tail of a longer one
                    starts[at] = name
                    at = strings.find(raw + b"\0", at + 1)
            if not starts:
                continue
            symbols = self.section_data(section)
            for start, name in starts.items():
                for _, info, _, where, value, size in symbols_named(symbols, start):
                    if where and name not in found:
                        found[name] = ElfSymbol(name, value, size, info & 15, info >> 4, where)
        return found
