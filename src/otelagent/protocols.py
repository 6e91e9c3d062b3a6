# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Roles that two packages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otelagent.model import Frame


class Memory(Protocol):
    """Memory of a process: live, a core file, or bytes made in a test."""

    def read(self, addr: int, size: int) -> bytes:
        """Read exactly `size` bytes at `addr`.

        Raises:
            MemoryFault: Not all of it could be read.
            ProcessGone: The process ended.
        """
        ...


class PythonNamer(Protocol):
    """Names the Python frames of one process."""

    def name(self, file_or_object: int, addr: int) -> Frame:
        """Turn the two words of a raw frame (`struct oa_frame`) into a frame."""
        ...

    def read_ahead(self, code: int, block: bytes) -> None:
        """Read a code object that frames will name (`struct oa_python_copy`)."""
        ...
