# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Points in time as people write them: `10m` (ago), `2026-11-21T14:00`, `now`."""

from __future__ import annotations

from datetime import datetime

from otelagent.errors import ConfigError
from otelagent.formats.durations import parse_duration


def parse_time(text: str, now_ns: int) -> int:
    """Turn a point in time into UNIX ns: a duration is before now, a date without a zone local.

    Raises:
        ConfigError: It is neither.
    """
    if text == "now":
        return now_ns
    try:
        return now_ns - int(parse_duration(text) * 1e9)
    except ConfigError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError) as err:
        hint = "write how long ago (90s, 10m, 2h) or a date (2026-11-21T14:00)"
        raise ConfigError(f"{text!r} is not a point in time", hint=hint) from err
