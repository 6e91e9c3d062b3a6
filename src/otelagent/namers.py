# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Joins what knows files and processes with what names their frames.

What names native and JIT code is a third of all imports and is not needed before
the first of them is to be named, mostly at the end: sampling begins without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelagent.errors import TargetError
from otelagent.formats.gnu_hash import may_export
from otelagent.host.files import FileSource, open_target
from otelagent.interpreters import registry
from otelagent.symbolize.result import Named, unresolved
from otelagent.unwind.cache import default_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.abi._generated import Unwinder
    from otelagent.abi.codec import Generation
    from otelagent.formats.elf import ElfFile
    from otelagent.interpreters.registry import Detected
    from otelagent.model import Executable
    from otelagent.options import Options
    from otelagent.processes.executables import Loaded
    from otelagent.symbolize.jit import JitProcesses
    from otelagent.symbolize.native import NativeSymbols


def detect(elf: ElfFile) -> Detected | None:
    """Find out whether a file is an interpreter; most are not, and that is cheap to tell.

    Raises:
        TargetError: It is one that cannot be unwound.
    """
    markers = (family.marker for family in registry.FAMILIES)
    if not any(may_export(elf, name) for name in markers):
        return None
    return registry.detect(elf)


def detector(
    options: Options, need: Callable[[Unwinder], None]
) -> Callable[[ElfFile], Detected | None]:
    """Give what looks for the interpreters that are to be unwound.

    Args:
        options: Say which.
        need: Loads an unwinder, or raises UnsupportedRuntime.
    """
    return partial(_detect_and_need, need) if options.python else lambda _elf: None


def _detect_and_need(need: Callable[[Unwinder], None], elf: ElfFile) -> Detected | None:
    found = detect(elf)
    if found is not None:
        need(found.family.unwinder)
    return found


class NoSymbols:
    """Leaves native frames as FileID and address (`--no-symbols`)."""

    def name(self, elf_addr: int, *, is_return_address: bool) -> Named:  # noqa: ARG002
        """Name nothing."""
        return unresolved("--no-symbols")

    def rest(self) -> None:
        """Give nothing back."""

    def close(self) -> None:
        """Give nothing back."""


def _root_of(loaded: Loaded) -> str:
    """Find the root directory where a file's debug files may lie beside it.

    The process may have ended, and its number be another's: only a root where the path
    leads to this very file will do. Empty: ours.
    """
    source, root = loaded.source, f"/proc/{loaded.pid}/root"
    if not loaded.pid or not isinstance(source, FileSource):
        return ""
    try:
        with open_target(root, loaded.executable.path) as found:
            return root if found.key == source.key else ""
    except TargetError:
        return ""


@dataclass(slots=True)
class Namers:
    """What names frames, by file and by process.

    Attributes:
        symbols: Name native frames at all.
        debuginfod: URL of a server that has debug files; empty: none is asked.
        cache: Where line tables are kept; None: the usual place.
        debug_dirs: Where else debug files are looked for.
        sysroot: Root directory of processes that are not of this machine; None: they are.
        proc: Where procfs is, which tells what JIT compilers wrote of their code.
    """

    symbols: bool
    debuginfod: str
    debug_dirs: tuple[Path, ...] = ()
    sysroot: str | None = None
    proc: Path = Path("/proc")
    cache: Path | None = None
    by_key: dict[int, Loaded] = field(default_factory=dict)
    _files: dict[int, NativeSymbols | NoSymbols] = field(default_factory=dict)
    _used: dict[int, int] = field(default_factory=dict)
    _turn: int = 0
    _jit: JitProcesses | None = None

    def rest(self, turns: int) -> None:
        """Give the tables of files back that named nothing new for so many calls of this.

        They are read again where they are needed; where nothing new runs, nothing is.
        What is mapped of line tables is given back each time, and comes back where it is used.
        """
        for each in self._files.values():
            each.rest()
        self._turn += 1
        for key, used in list(self._used.items()):
            if self._turn - used <= turns:
                continue
            del self._used[key]
            symbols = self._files.pop(key, None)
            if symbols is not None:
                symbols.close()

    def file(self, key: int) -> tuple[Executable, NativeSymbols | NoSymbols] | None:
        """Find the file that BPF knows by `key`, with what names its addresses."""
        loaded = self.by_key.get(key)
        if loaded is None:
            return None
        self._used[key] = self._turn
        symbols = self._files.get(key)
        if symbols is None:
            path = loaded.executable.path
            symbols = NoSymbols()
            if self.symbols:
                from otelagent.symbolize.debugfiles import DEBUG_DIRS  # noqa: PLC0415
                from otelagent.symbolize.native import NativeSymbols  # noqa: PLC0415

                url = self.debuginfod or None
                places: dict[str, Any] = {"cache_dir": self.cache or default_directory()}
                if self.debug_dirs:
                    places["debug_dirs"] = (*self.debug_dirs, *DEBUG_DIRS)
                root = _root_of(loaded) if self.sysroot is None else self.sysroot
                symbols = NativeSymbols.open(
                    loaded.source, path, root=root, debuginfod=url, **places
                )
            self._files[key] = symbols
        return loaded.executable, symbols

    def anonymous(self, generation: Generation, addr: int) -> Named | None:
        """Name code in memory without a file, from what its JIT wrote about it."""
        if self.sysroot is not None:
            return None  # what has that pid here is another process
        if self._jit is None:
            from otelagent.symbolize.jit import JitProcesses  # noqa: PLC0415

            self._jit = JitProcesses(proc=self.proc)
        return self._jit.name(generation.pid, generation, addr, is_return_address=False)
