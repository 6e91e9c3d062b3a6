# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of bytes as people write them."""

import pytest

from otelagent.errors import ConfigError
from otelagent.formats.pairs import parse_pairs
from otelagent.formats.quantities import parse_bytes, parse_share


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("64KiB", 65536), ("64 kb", 65536), ("1.5G", 3 << 29), ("2T", 2 << 40), ("7B", 7)],
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1X", "K", "1e9", "9" * 50, "1.5.2"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError):
        parse_bytes(text)


def test_pairs_are_decoded_and_keep_their_case():
    assert parse_pairs("Team=a%2Cb, x = 1 ,", "attribute") == (("Team", "a,b"), ("x", "1"))


@pytest.mark.parametrize(
    ("text", "share"), [("1%", 0.01), ("0.5 %", 0.005), ("0.01", 0.01), ("0", 0.0), ("100%", 1.0)]
)
def test_shares_are_read(text, share):
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "%", "101%", "2", "-1%", "1e-2", "1%%"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConfigError):
        parse_share(text)
