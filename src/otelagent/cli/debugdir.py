# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names frames of a saved profile by the ELF files in some directories.

A file counts only if its build id is that of the profile's executable, or, in
profiles and files without one, its FileID: a name from another build would be
wrong. It may be the program itself, or its debug file.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from otelagent.errors import BadElf
from otelagent.model import FrameType
from otelagent.symbolize import debugfiles
from otelagent.symbolize.native import NativeSymbols
from otelagent.unwind.file_id import file_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from otelagent.formats.elf import ElfFile
    from otelagent.model import Executable, Frame

MAX_FILES = 200_000
NOT_FOUND = "no file of this build in the debug directory"


class DirectoryRenamer:
    """A `Renamer`: looks for symbols below directories; holds the files it opened."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = list(directories)
        self._by_name: dict[str, list[str]] | None = None
        self._symbols: dict[Executable, NativeSymbols | None] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def rename(self, frame: Frame) -> Frame:
        """Give the frame with the lines that a file in the directories has for it."""
        executable = frame.executable
        if executable is None or frame.type is FrameType.KERNEL:
            return frame
        if executable not in self._symbols:
            self._symbols[executable] = self._find(executable)
        symbols = self._symbols[executable]
        if symbols is None:
            return replace(frame, reason=NOT_FOUND)
        # The address of a caller was moved into its call when the profile was made.
        named = symbols.name(frame.address, is_return_address=False)
        return replace(frame, type=named.type, lines=named.lines, reason=named.reason)

    def _find(self, executable: Executable) -> NativeSymbols | None:
        for path in self._candidates(executable):
            elf = debugfiles.open_elf(path)
            if elf is None:
                continue
            self._open.callback(debugfiles.close, elf)
            if is_same_build(elf, executable):
                return NativeSymbols.open(elf.source, path, debug_dirs=self._directories)
        return None

    def _candidates(self, executable: Executable) -> Iterator[str]:
        if len(executable.build_id) > len("00"):
            inside = debugfiles.build_id_path(executable.build_id)
            for folder in self._directories:
                yield str(folder / inside)
                yield str(folder / inside.removesuffix(".debug"))
        name = executable.path.rsplit("/", 1)[-1]
        for wanted in (name, f"{name}.debug"):
            yield from self._files().get(wanted, ())

    def _files(self) -> dict[str, list[str]]:
        """List the files below the directories by their names, once."""
        if self._by_name is None:
            self._by_name = {}
            count = 0
            for directory in self._directories:
                for folder, _folders, names in os.walk(directory):
                    count += len(names)
                    if count > MAX_FILES:
                        return self._by_name
                    for name in names:
                        self._by_name.setdefault(name, []).append(f"{folder}/{name}")
        return self._by_name


def is_same_build(elf: ElfFile, executable: Executable) -> bool:
    """Tell whether a file is the executable of the profile, or was split off from it."""
    try:
        if executable.build_id or elf.build_id:
            return elf.build_id == executable.build_id
        return file_id(elf.source) == executable.file_id
    except BadElf:
        return False
