# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Unpacking gzip with a bound, since a small file may hold gigabytes of zeros."""

from __future__ import annotations

import zlib

from otelagent.errors import FormatError

MAX_BYTES = 1 << 30


def unpack(data: bytes, limit: int = MAX_BYTES) -> bytes:
    """Unpack one gzip file of any number of members.

    Raises:
        FormatError: It is damaged, cut, or larger than `limit` when unpacked.
    """
    parts = []
    size = 0
    while data:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            part = unpacker.decompress(data, limit + 1 - size)
        except zlib.error as err:
            raise FormatError(f"damaged gzip data: {err}") from err
        size += len(part)
        if size > limit:
            raise FormatError(f"more than {limit} bytes when unpacked")
        if not unpacker.eof:
            raise FormatError("the gzip data is cut")
        parts.append(part)
        data = unpacker.unused_data
    return b"".join(parts)
