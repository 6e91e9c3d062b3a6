# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names frames of a saved profile from symbol files in directories (`report --debug-dir`).

A file belongs to a frame if its build id is the frame's; without build ids, if
its FileID is. A file that only has the right name is not enough: another build
would give wrong names.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from otelagent.errors import AgentError, BadElf
from otelagent.formats.elf import ElfFile
from otelagent.host.files import FileSource, open_file
from otelagent.model import FrameType
from otelagent.symbolize.debugfiles import build_id_path
from otelagent.symbolize.native import NativeSymbols

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from otelagent.formats.elf import Source
    from otelagent.model import Executable, FileId, Frame

MAX_FILES = 20_000

_logger = logging.getLogger(__name__)


class FileRenamer:
    """Looks addresses up in the files of some directories; those below them too.

    Args:
        folders: Where to look.
        file_id: Computes a file's FileID.
        cache_dir: Where prepared lines are kept.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        file_id: Callable[[Source], FileId],
        *,
        cache_dir: Path | None = None,
    ) -> None:
        self._folders = tuple(folders)
        self._file_id = file_id
        self._cache_dir = cache_dir
        self._symbols: dict[tuple[str, bytes], NativeSymbols | None] = {}
        self._by_build_id: dict[str, str] | None = None
        self._by_name: dict[str, list[str]] = {}

    def rename(self, frame: Frame) -> Frame:
        """Give the frame with lines, or the same frame if nothing is known of it."""
        executable = frame.executable
        if executable is None or frame.type not in {FrameType.NATIVE, FrameType.GO}:
            return frame
        symbols = self._find(executable)
        if symbols is None:
            return frame
        named = symbols.name(frame.address, is_return_address=False)
        if not named.lines:
            return frame
        return replace(frame, type=named.type, lines=named.lines, reason=named.reason)

    def _find(self, executable: Executable) -> NativeSymbols | None:
        key = (executable.build_id, bytes(executable.file_id))
        if key not in self._symbols:
            self._symbols[key] = self._open(executable)
        return self._symbols[key]

    def _open(self, executable: Executable) -> NativeSymbols | None:
        for path in self._candidates(executable):
            try:
                source = open_file(path)
            except AgentError:
                continue
            if self._is_right(source, executable):
                _logger.debug("symbols path=%s for=%s", path, executable.path)
                return NativeSymbols.open(
                    source, path, debug_dirs=self._folders, cache_dir=self._cache_dir
                )
            source.close()
        return None

    def _is_right(self, source: FileSource, executable: Executable) -> bool:
        try:
            elf = ElfFile(source)
            if executable.build_id:
                return elf.build_id == executable.build_id
            return any(executable.file_id) and self._file_id(source) == executable.file_id
        except BadElf:
            return False

    def _candidates(self, executable: Executable) -> Iterator[str]:
        build_id = executable.build_id
        name = os.path.basename(executable.path)  # noqa: PTH119 (a path of another machine)
        for folder in self._folders:
            if len(build_id) > 4:
                yield str(folder / build_id_path(build_id))
            if name and executable.path.startswith("/"):
                yield f"{folder}{executable.path}"
                yield f"{folder}{executable.path}.debug"
        if self._by_build_id is None:
            self._by_build_id = self._index()
        if build_id in self._by_build_id:
            yield self._by_build_id[build_id]
        yield from self._by_name.get(name, [])

    def _index(self) -> dict[str, str]:
        """Look through the directories once: build id → path, name → paths."""
        found: dict[str, str] = {}
        for path in self._walk():
            self._by_name.setdefault(os.path.basename(path), []).append(path)  # noqa: PTH119
            try:
                with open_file(path) as source:
                    build_id = ElfFile(source).build_id
            except AgentError:
                continue
            if build_id:
                found.setdefault(build_id, path)
        return found

    def _walk(self) -> Iterator[str]:
        seen = 0
        for folder in self._folders:
            for home, folders, names in os.walk(folder):
                folders.sort()
                for name in sorted(names):
                    seen += 1
                    if seen > MAX_FILES:
                        return
                    yield f"{home}/{name}"
