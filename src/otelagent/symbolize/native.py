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
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import SHT_SYMTAB, ElfFile
from otelagent.model import Executable, FileId
from otelagent.symbolize import debugfiles
from otelagent.symbolize.demangle import demangle
from otelagent.symbolize.result import BAD_FILE, NO_SYMBOLS, OUTSIDE, Named, plain, unresolved
from otelagent.symbolize.symtab import SymbolTable, symbol_sections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from otelagent.formats.elf import Source

MAX_CACHED = 16_384

_logger = logging.getLogger(__name__)


class NativeSymbols:
    """Names addresses of one file. May be called from any thread."""

    def __init__(self, elf: ElfFile | None, path: str, options: Options) -> None:
        self._elf = elf
        self._path = path
        self._options = options
        self._lock = threading.Lock()
        self._table: SymbolTable | None = None
        self._loaded = False
        self._cache: dict[int, Named] = {}

    @classmethod
    def open(
        cls,
        source: Source,
        path: str,
        *,
        debug_dirs: Sequence[Path] = debugfiles.DEBUG_DIRS,
        root: str = "",
        debuginfod: str | None = None,
    ) -> NativeSymbols:
        """Prepare to name addresses of `source`; nothing is read yet but the header.

        Args:
            source: The file; it is kept open as long as the answer lives.
            path: As the process sees it; debug links are relative to it.
            debug_dirs: Where separate debug files are looked for.
            root: The process's root directory as we see it (`/proc/PID/root`).
            debuginfod: URL of a server to ask for debug files; never contacted without.
        """
        try:
            elf = ElfFile(source)
        except BadElf as err:
            _logger.debug("no symbols path=%s error=%s", path, err)
            elf = None
        return cls(elf, path, Options(tuple(debug_dirs), root, debuginfod))

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
        self._load()
        if self._elf is None:
            return unresolved(BAD_FILE)
        if self._table is None or not self._table.count:
            return unresolved(NO_SYMBOLS)
        found = self._table.find(addr)
        if found is None:
            return unresolved(OUTSIDE)
        return plain(demangle(found[2]), found[2].decode("utf-8", "replace"))

    def _load(self) -> None:
        if self._loaded or self._elf is None:
            return
        self._loaded = True
        try:
            self._table = SymbolTable.read(self._files())
        except BadElf as err:
            _logger.debug("no symbols path=%s error=%s", self._path, err)

    def _files(self) -> list[ElfFile]:
        """List the ELF files whose symbols count, the file itself first."""
        assert self._elf is not None  # noqa: S101 (for the type checker)
        files = [self._elf]
        if any(symbols.type == SHT_SYMTAB for symbols, _ in symbol_sections(self._elf)):
            return files
        options = self._options
        debug = debugfiles.find_debug_file(
            self._elf, self._path, dirs=options.debug_dirs, root=options.root
        )
        extra = debug or debugfiles.read_mini(self._elf)
        return [*files, extra] if extra else files


class Options:
    """Where to look for debug files."""

    __slots__ = ("debug_dirs", "debuginfod", "root")

    def __init__(self, debug_dirs: tuple[Path, ...], root: str, debuginfod: str | None) -> None:
        self.debug_dirs = debug_dirs
        self.root = root
        self.debuginfod = debuginfod


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
