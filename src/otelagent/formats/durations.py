# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Durations as people write them: `30`, `30s`, `5m`, `2m30s`, `1.5h`, `200ms`, `5us`."""

from __future__ import annotations

import re

from otelagent.errors import ConfigError

_UNITS = {"us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def parse_duration(text: str) -> float:
    """Turn a duration into seconds; a plain number is seconds.

    Raises:
        ConfigError: It is no duration, or not above zero.
    """
    seconds = 0.0
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif "".join(match[0] for match in _PART.finditer(text)) == text:
        seconds = sum(float(m[1]) * _UNITS[m[2]] for m in _PART.finditer(text))
    if not 0 < seconds < 1e9:
        raise ConfigError(
            f"{text!r} is not a duration above zero", hint="write 30, 30s, 5m or 2m30s"
        )
    return seconds
