# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`RetryInfo` in the details of a gRPC status: how long a receiver wants to be left alone.

The messages are `google.rpc.Status` and `google.rpc.RetryInfo` (google/rpc/status.proto,
error_details.proto). Three fields are all that is wanted of them, so they are read from the
wire and no package is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_STATUS_DETAILS, _ANY_TYPE, _ANY_VALUE = 3, 1, 2
_RETRY_DELAY, _SECONDS, _NANOS = 1, 1, 2
MAX_BYTES = 16 << 10


def retry_delay_s(details: bytes) -> float | None:
    """Give the delay that a status asks for, in seconds; None if it has none."""
    if not 0 < len(details) <= MAX_BYTES:
        return None
    try:
        for number, status_detail in read_fields(details):
            if number != _STATUS_DETAILS or not isinstance(status_detail, bytes):
                continue
            detail = dict(read_fields(status_detail))
            value = detail.get(_ANY_VALUE, b"")
            if detail.get(_ANY_TYPE) == RETRY_INFO and isinstance(value, bytes):
                return _delay(value)
    except ValueError:
        return None
    return None


def _delay(retry_info: bytes) -> float:
    duration = dict(read_fields(retry_info)).get(_RETRY_DELAY, b"")
    parts = dict(read_fields(duration)) if isinstance(duration, bytes) else {}
    seconds, nanos = parts.get(_SECONDS, 0), parts.get(_NANOS, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int) or seconds >> 62:
        return 0.0  # negative numbers are the highest of all
    return seconds + min(nanos, 10**9) / 1e9


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Take a message apart: numbers and values of its fields.

    Raises:
        ValueError: It is no message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            size, at = _varint(data, at)
        if size < 0 or at + size > len(data):
            raise ValueError("no message")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number")
