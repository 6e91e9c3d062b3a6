# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names of Go code: functions, files, lines and inlined calls from pclntab."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.gopclntab import GoTable, find_section
from otelagent.model import FrameType, Function, Line
from otelagent.symbolize.result import Named

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

_logger = logging.getLogger(__name__)


class GoSymbols:
    """Names addresses of Go functions of one file. Not to be shared between threads."""

    def __init__(self, table: GoTable) -> None:
        self._table: GoTable | None = table

    @classmethod
    def open(cls, elf: ElfFile, path: str) -> GoSymbols | None:
        """Find the file's pclntab; None if it is not a Go program or of an unknown layout."""
        try:
            if find_section(elf) is None:
                return None
            return cls(GoTable(elf))
        except BadElf as err:
            _logger.debug("no Go symbols path=%s error=%s", path, err)
            return None

    def name(self, addr: int) -> Named | None:
        """Name an ELF address; None if no Go function covers it."""
        if self._table is None:
            return None
        try:
            found = self._table.find(addr)
        except BadElf as err:
            _logger.debug("Go symbols are broken error=%s", err)
            self._table = None
            return None
        if not found:
            return None
        lines = tuple(
            Line(Function(one.name, "", one.file, one.start_line), one.line) for one in found
        )
        return Named(lines, FrameType.GO)
