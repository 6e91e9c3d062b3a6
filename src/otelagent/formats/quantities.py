# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Quantities as people write them: bytes (`4096`, `64KiB`, `1.5GiB`) and shares (`1%`)."""

from __future__ import annotations

import re

from otelagent.errors import ConfigError

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
_SHARE = re.compile(r"(\d*\.?\d+)\s*(%)?")
_POWER = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_bytes(text: str) -> int:
    """Turn a size into bytes; K, M, G and T are powers of 1,024, with or without `iB`.

    Raises:
        ConfigError: It is no size, or not above zero.
    """
    match = _NUMBER.fullmatch(text.strip())
    size = int(float(match[1]) * (1 << _POWER[(match[2] or "").upper()])) if match else 0
    if not 0 < size < 1 << 60:
        raise ConfigError(f"{text!r} is not a size above zero", hint="write 65536, 64MiB or 1GiB")
    return size


def parse_share(text: str) -> float:
    """Turn `1%` or `0.01` into a part of a whole, 0 to 1.

    Raises:
        ConfigError: It is none.
    """
    match = _SHARE.fullmatch(text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"{text!r} is no part of a whole", hint="write 1% or 0.01")
    return share
