# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of bytes as people write them: `4096`, `64KiB`, `512M`, `1.5GiB`."""

from __future__ import annotations

import re

from otelagent.errors import ConfigError

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
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
