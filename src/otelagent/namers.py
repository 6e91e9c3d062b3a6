# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Joins what knows files and processes with what names their frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent.symbolize.jit import JitProcesses
from otelagent.symbolize.native import NativeSymbols
from otelagent.symbolize.result import Named, unresolved
from otelagent.unwind.extract import RowTable, extract

if TYPE_CHECKING:
    from otelagent.abi.codec import Generation, Report
    from otelagent.formats.elf import ElfFile, Source
    from otelagent.model import Executable
    from otelagent.processes.executables import Loaded
    from otelagent.protocols import PythonNamer


def load_rows(_source: Source, elf: ElfFile) -> RowTable:
    """Get the unwind rows of a file."""
    return extract(elf)


def detect_python(_elf: ElfFile) -> tuple[tuple[int, int], ...]:
    """Find the ranges of the eval loop, if the file is a CPython."""
    return ()


class NoSymbols:
    """Leaves native frames as FileID and address (`--no-symbols`)."""

    def name(self, elf_addr: int, *, is_return_address: bool) -> Named:  # noqa: ARG002
        """Name nothing."""
        return unresolved("--no-symbols")


@dataclass(slots=True)
class Namers:
    """What names frames, by file and by process."""

    symbols: bool
    debuginfod: str
    by_key: dict[int, Loaded] = field(default_factory=dict)
    _files: dict[int, NativeSymbols | NoSymbols] = field(default_factory=dict)
    _jit: JitProcesses = field(default_factory=JitProcesses)

    def file(self, key: int) -> tuple[Executable, NativeSymbols | NoSymbols] | None:
        """Find the file that BPF knows by `key`, with what names its addresses."""
        loaded = self.by_key.get(key)
        if loaded is None:
            return None
        symbols = self._files.get(key)
        if symbols is None:
            path = loaded.executable.path
            symbols = NoSymbols()
            if self.symbols:
                url = self.debuginfod or None
                symbols = NativeSymbols.open(loaded.source, path, debuginfod=url)
            self._files[key] = symbols
        return loaded.executable, symbols

    def python(self, _generation: Generation) -> PythonNamer | None:
        """Find what names the Python frames of a process."""
        return None

    def anonymous(self, generation: Generation, addr: int) -> Named | None:
        """Name code in memory without a file."""
        if not self.symbols:
            return None
        return self._jit.name(generation.pid, generation, addr, is_return_address=False)

    def attach_python(self, report: Report) -> None:
        """Make the interpreter of a process known to BPF."""
