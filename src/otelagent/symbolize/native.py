# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names of machine code in one ELF file.

Everything is read when the first address is asked for, and kept. Whatever
the file holds, `NativeSymbols` answers and never raises: a file that lies
costs its names, not the agent.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import SHT_SYMTAB, ElfFile
from otelagent.model import Executable, FileId, FrameType, Function, Line
from otelagent.symbolize import debugfiles
from otelagent.symbolize.demangle import demangle
from otelagent.symbolize.go import GoSymbols
from otelagent.symbolize.plt import PltStubs
from otelagent.symbolize.result import (
    BAD_FILE,
    NO_SYMBOLS,
    OUTSIDE,
    PLT_UNNAMED,
    Named,
    plain,
    unresolved,
)
from otelagent.symbolize.symcache import LineTable, Location, has_debug_info, open_lines
from otelagent.symbolize.symtab import SymbolTable, symbol_sections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from otelagent.formats.elf import Source

MAX_CACHED = 256
"""Names of one file, then it begins anew: whoever asks keeps those that are still wanted."""
MAX_PATH_CHARS = 4096

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Where to look for debug files, and whether to read lines from them."""

    debug_dirs: tuple[Path, ...]
    root: str
    debuginfod_url: str | None
    cache_dir: Path | None
    lines: bool


class NativeSymbols:
    """Names addresses of one file. May be called from any thread."""

    def __init__(self, elf: ElfFile | None, path: str, options: Options) -> None:
        self._elf = elf
        self._path = path
        self._options = options
        self._lock = threading.Lock()
        self._cache: dict[int, Named] = {}
        self._is_loaded = False
        self._debug: ElfFile | None = None
        self._table: SymbolTable | None = None
        self._stubs: PltStubs | None = None
        self._go: GoSymbols | None = None
        self._lines: LineTable | None = None
        self._no_lines: str | None = None

    @classmethod
    def open(
        cls,
        source: Source,
        path: str,
        *,
        debug_dirs: Sequence[Path] = debugfiles.DEBUG_DIRS,
        root: str = "",
        debuginfod: str | None = None,
        cache_dir: Path | None = None,
        lines: bool = True,
    ) -> NativeSymbols:
        """Prepare to name addresses of `source`; nothing is read yet but the header.

        Args:
            source: The file; it stays the caller's and must stay open.
            path: As the process sees it; debug links are relative to it.
            debug_dirs: Where separate debug files are looked for.
            root: The process's root directory as we see it (`/proc/PID/root`).
            debuginfod: URL of a server to ask for debug files; never contacted without.
            cache_dir: Where prepared lines and fetched files are kept; None: not kept.
            lines: Read DWARF for source lines and inlined functions.
        """
        try:
            elf = ElfFile(source)
        except BadElf as err:
            _logger.debug("no symbols path=%s error=%s", path, err)
            elf = None
        return cls(elf, path, Options(tuple(debug_dirs), root, debuginfod, cache_dir, lines))

    def rest(self) -> None:
        """Let nothing of the line table be resident, until a line is asked for."""
        with self._lock:
            if self._lines:
                self._lines.rest()

    def close(self) -> None:
        """Forget everything that was read; a later `name` reads again."""
        with self._lock:
            debugfiles.close(self._debug)
            self._debug = self._table = self._stubs = self._go = self._lines = None
            self._no_lines = None
            self._is_loaded = False
            self._cache.clear()

    def name(self, elf_addr: int, *, is_return_address: bool) -> Named:
        """Name an ELF address; for a return address, the call before it."""
        addr = elf_addr - is_return_address
        with self._lock:
            named = self._cache.get(addr)
            if named is None:
                named = self._name(addr)
                if len(self._cache) >= MAX_CACHED:
                    self._cache.clear()
                self._cache[addr] = named
            return named

    def _name(self, addr: int) -> Named:
        if self._elf is None:
            return unresolved(BAD_FILE)
        try:
            self._load(self._elf)
            return self._find(self._elf, addr)
        except BadElf as err:
            _logger.debug("file cut or broken path=%s error=%s", self._path, err)
            return unresolved(BAD_FILE)

    def _find(self, elf: ElfFile, addr: int) -> Named:
        named = self._go.name(addr) if self._go else None
        if named is not None:
            return named
        found = self._table.find(addr) if self._table else None
        raw = found[2] if found else b""
        locations = self._locations(elf, addr)
        if locations:
            return _with_lines(locations, raw)
        if raw:
            named = plain(demangle(raw), raw.decode("utf-8", "replace"))
            return replace(named, reason=self._no_lines or "")
        if self._stubs and self._stubs.section_of(addr):
            stub = self._stubs.name(addr)
            if stub is None:
                return unresolved(PLT_UNNAMED)
            return plain(demangle(stub) + "@plt", stub.decode("utf-8", "replace") + "@plt")
        has_any = self._table is not None and self._table.count > 0
        return unresolved(OUTSIDE if has_any or self._go else NO_SYMBOLS)

    def _locations(self, elf: ElfFile, addr: int) -> list[Location]:
        """Look lines up, which are prepared when the first address needs them."""
        if self._no_lines is None:
            self._no_lines = ""
            if self._options.lines:
                holder = self._debug if self._debug and has_debug_info(self._debug) else elf
                self._lines, self._no_lines = open_lines(holder, self._options.cache_dir)
        return self._lines.find(addr) if self._lines else []

    def _load(self, elf: ElfFile) -> None:
        if self._is_loaded:
            return
        self._is_loaded = True
        self._go = GoSymbols.open(elf, self._path)
        self._stubs = PltStubs(elf)
        try:
            self._table = SymbolTable.read(self._files(elf))
        except BadElf as err:
            _logger.debug("no symbols path=%s error=%s", self._path, err)

    def _files(self, elf: ElfFile) -> list[ElfFile]:
        """List the ELF files whose symbols count, the file itself first."""
        is_stripped = all(symbols.type != SHT_SYMTAB for symbols, _ in symbol_sections(elf))
        options = self._options
        if is_stripped or not has_debug_info(elf):
            self._debug = debugfiles.find_debug_file(
                elf, self._path, dirs=options.debug_dirs, root=options.root
            )
            if self._debug is None and options.debuginfod_url and is_stripped:
                # An HTTP client costs a sixth of the imports, and few ask for it.
                from otelagent.symbolize import debuginfod  # noqa: PLC0415

                self._debug = debuginfod.find(elf, options.debuginfod_url, options.cache_dir)
        if not is_stripped:
            return [elf]
        extra = self._debug or debugfiles.read_mini(elf)
        return [elf, extra] if extra else [elf]


def _with_lines(locations: list[Location], raw: bytes) -> Named:
    """Join what DWARF says with the symbol table's name of the physical function."""
    lines = []
    for number, one in enumerate(locations, 1):
        is_physical = number == len(locations) and raw
        symbol = raw if is_physical else one.name.encode()
        text = symbol.decode("utf-8", "replace")
        name = demangle(symbol)
        system_name = "" if name == text else text
        function = Function(name, system_name, one.file[:MAX_PATH_CHARS], one.start_line)
        lines.append(Line(function, one.line))
    return Named(tuple(lines), FrameType.NATIVE)


def read_executable(elf: ElfFile, file_id: FileId, path: str) -> Executable:
    """Describe an ELF file for the profile: build ids and where its code is."""
    try:
        loads = elf.executable_loads()
        build_id, go_build_id = elf.build_id, elf.go_build_id
    except BadElf:
        return Executable(file_id, path)
    first = min(loads, key=lambda load: load.vaddr, default=None)
    return Executable(
        *(file_id, path, build_id, go_build_id),
        text_start=first.vaddr if first else 0,
        text_end=max((load.vaddr + load.memsz for load in loads), default=0),
        text_offset=first.offset if first else 0,
    )
