# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Profile files are tables that refer to one another by index; no index of theirs is trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from otelagent.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
MAX_FRAMES = 4096
"""More frames in one stack than any profiler takes: bounds what a hostile file can grow to."""


def pick(table: Sequence[T], index: int) -> T:
    """Give one row.

    Raises:
        FormatError: There is none.
    """
    if not 0 <= index < len(table):
        raise FormatError(f"index {index} is not in a table of {len(table)}")
    return table[index]
