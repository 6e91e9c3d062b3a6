# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`name=value,name=value` as OpenTelemetry writes headers and resource attributes."""

from __future__ import annotations

from urllib.parse import unquote

from otelagent.errors import ConfigError


def parse_pairs(text: str, what: str) -> tuple[tuple[str, str], ...]:
    """Take a list of pairs apart; values may be percent-encoded.

    Args:
        text: The list; empty parts are passed over.
        what: What one of them is called, for messages.

    Raises:
        ConfigError: A part is no pair.
    """
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                f"{what} {name.strip()!r} is not understood", hint="write NAME=VALUE,NAME=VALUE"
            )
        pairs.append((name.strip(), unquote(value.strip())))
    return tuple(pairs)
