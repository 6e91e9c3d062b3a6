# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Points in time as people write them."""

from datetime import UTC, datetime

import pytest

from otelagent.errors import ConfigError
from otelagent.formats.times import parse_time

NOW = 1_800_000_000 * 10**9


@pytest.mark.parametrize(
    ("text", "ago"), [("now", 0), ("30", 30), ("10m", 600), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_a_duration_is_before_now(text, ago):
    assert parse_time(text, NOW) == NOW - int(ago * 10**9)


def test_a_date_is_itself():
    meant = int(datetime(2026, 11, 21, 14, 30, tzinfo=UTC).timestamp()) * 10**9

    assert parse_time("2026-11-21T14:30Z", NOW) == meant
    assert parse_time("2026-11-21T15:30+01:00", NOW) == meant
    assert parse_time("2026-11-21 14:30:00.25Z", NOW) == meant + 250_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "-5m", "2026-13-01", "0001-01-01"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ConfigError):
        parse_time(text, NOW)
