# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from otelagent.errors import ConfigError
from otelagent.formats.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0.5", 0.5), ("30s", 30), ("5m", 300), ("2m30s", 150), ("200ms", 0.2)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "-1", "5x", "m", "1e5", "nan", "3 s", "5m3", "inf"])
def test_what_is_no_duration_is_refused_with_a_hint(text):
    with pytest.raises(ConfigError) as caught:
        parse_duration(text)

    assert "2m30s" in caught.value.hint
