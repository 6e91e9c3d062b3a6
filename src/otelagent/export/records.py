# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests in files: what spool and store keep, and `report` reads.

A file is a row of records. Each is a skippable frame of zstd (our header) and then an
ordinary frame: the length of the request in 4 bytes, big-endian, and the request. So
`zstd -dc FILE` gives what the Collector's file exporter writes as `format: proto`, and
files can be joined by `cat`. The header tells time and samples without unpacking.

A record that is cut or damaged ends its file: whoever writes appends whole records only,
so only a crash in the midst of the last one leaves such an end.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from otelagent.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

SKIPPABLE = 0x184D2A5B
"""One of the 16 magic numbers of skippable frames (RFC 8878, section 3.1.2)."""
_HEADER = struct.Struct("<II4sIIIQQ")
_HEADER_BYTES = _HEADER.size - 8
_TAG = b"oag1"
_LENGTH = struct.Struct(">I")
LEVEL = 3
MAX_REQUEST_BYTES = 64 << 20
"""No request is that large: they are split to fit a receiver's 4 MB."""
MAX_FRAME_BYTES = MAX_REQUEST_BYTES + (1 << 20)


@dataclass(frozen=True, slots=True)
class Record:
    """A serialized request with what is to be known of it; times are UNIX ns."""

    data: bytes
    samples: int
    start_ns: int = 0
    end_ns: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.data)


def pack_record(record: Record) -> bytes:
    """Make the bytes of a record."""
    import zstandard  # noqa: PLC0415 (only agents that keep something need it)

    frame = zstandard.compress(_LENGTH.pack(len(record.data)) + record.data, LEVEL)
    return (
        _HEADER.pack(
            *(SKIPPABLE, _HEADER_BYTES, _TAG, record.samples, len(frame), zlib.crc32(frame)),
            *(record.start_ns, record.end_ns),
        )
        + frame
    )


def read_records(stream: BinaryIO, since_ns: int = 0, until_ns: int = 1 << 64) -> Iterator[Record]:
    """Read the records that overlap a time; others are not unpacked.

    Raises:
        FormatError: A record is cut or damaged; those before it have been given.
    """
    while head := stream.read(_HEADER.size):
        if len(head) < _HEADER.size:
            raise FormatError("the last record is cut")
        magic, size, tag, samples, frame_bytes, checksum, start_ns, end_ns = _HEADER.unpack(head)
        if (magic, size, tag) != (SKIPPABLE, _HEADER_BYTES, _TAG):
            raise FormatError("this is no record of a store")
        if frame_bytes > MAX_FRAME_BYTES:
            raise FormatError(f"a record of {frame_bytes} bytes")
        frame = stream.read(frame_bytes)
        if len(frame) < frame_bytes:
            raise FormatError("the last record is cut")
        if end_ns < since_ns or start_ns >= until_ns:
            continue
        if zlib.crc32(frame) != checksum:
            raise FormatError("a record is damaged")
        yield Record(_unpack(frame), samples, start_ns, end_ns)


def _unpack(frame: bytes) -> bytes:
    import zstandard  # noqa: PLC0415

    try:
        if zstandard.frame_content_size(frame) > MAX_REQUEST_BYTES:
            raise FormatError("a record is damaged: it would be too large")
        data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=MAX_REQUEST_BYTES)
    except zstandard.ZstdError as err:
        raise FormatError(f"a record is damaged: {err}") from err
    if len(data) < _LENGTH.size or _LENGTH.unpack_from(data)[0] != len(data) - _LENGTH.size:
        raise FormatError("a record is damaged: its length is wrong")
    return data[_LENGTH.size :]
