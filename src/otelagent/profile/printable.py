# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Text that others chose, made safe for a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace control characters: a function's name must not steer the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
