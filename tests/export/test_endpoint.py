# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Addresses and headers as users write them."""

import pytest

from otelagent.errors import ConfigError
from otelagent.export.endpoint import parse_address, parse_headers, signal_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:11000", "grpcs://127.0.0.1:11000"),
        ("collector", "grpcs://collector:4317"),
        ("[::1]:1", "grpcs://[::1]:1"),
        ("http://c", "http://c:4318/v1development/profiles"),
        ("https://c:1/", "https://c:1/v1development/profiles"),
        ("https://c/otlp/p", "https://c:4318/otlp/p"),
    ],
)
def test_an_address_says_protocol_port_and_path(text, shown):
    assert str(parse_address(text)) == shown


def test_tls_is_off_where_asked_or_where_the_scheme_says_so():
    assert str(parse_address("c:1", tls=False)) == "grpc://c:1"
    assert str(parse_address("http://c:1", "grpc", tls=True)) == "grpc://c:1"
    assert str(parse_address("c:1", "http/protobuf", tls=False)).startswith("http://c:1/")


@pytest.mark.parametrize(
    "text", ["", ":1", "c:x", "c:99999", "ftp://c", "c/path", "http://u:p@c", "http://c?q", "[::1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError):
        parse_address(text)


def test_the_url_for_all_signals_gets_the_path_for_profiles():
    assert signal_url("http://c:4318/otlp/") == "http://c:4318/otlp/v1development/profiles"
    assert signal_url("c:4317") == "c:4317"


def test_headers_are_decoded():
    assert parse_headers(" A=b , authorization=Bearer%20x=,") == (
        ("a", "b"),
        ("authorization", "Bearer x="),
    )


@pytest.mark.parametrize("text", ["a", "=b", "a b=c", "a=b%0d%0ac"])
def test_headers_that_are_none_are_refused_without_their_value(text):
    with pytest.raises(ConfigError, match=r"^header") as caught:
        parse_headers(text)
    assert "%0d" not in str(caught.value)
