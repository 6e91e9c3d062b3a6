# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a process publishes of itself in memory: OpenTelemetry's process context (OTEP 4719).

A mapping named OTEL_CTX begins with a header: signature, version, size of the payload, time of
its publication (0 while it is being changed), address of the payload. The payload is a
`ProcessContext`, whose field 1 is a `Resource`. The process may write there what it likes, so
that all is bounded, and nothing read is followed any further.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING

from otelagent.export.status_details import read_fields

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1 import common_pb2

Attributes = tuple[tuple[str, str], ...]
_MAPPING = re.compile(
    rb"^([0-9a-f]+)-[0-9a-f]+ r.*(?:\[anon_shmem:OTEL_CTX|\[anon:OTEL_CTX|/memfd:OTEL_CTX)",
    re.MULTILINE,
)
_HEADER = struct.Struct("<8sIIQQ")
_SIGNATURE, _VERSION, _RESOURCE = b"OTEL_CTX", 2, 1
MAX_MAPS_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 64 << 10
MAX_ATTRIBUTES, MAX_KEY_CHARS, MAX_CHARS = 64, 128, 256
_TRIES = 3
_OURS = ("process.pid", "process.vpid", "process.executable.", "host.", "os.", "container.id")
"""What we know better than the process."""


def read_context(pid: int, proc: str = "/proc") -> Attributes:
    """Read the attributes that a process publishes; none where it does not, or is gone."""
    maps = _read_maps(f"{proc}/{pid}/maps")
    found = _MAPPING.search(maps) if b"OTEL_CTX" in maps else None
    if not found:
        return ()
    try:
        fd = os.open(f"{proc}/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    try:
        return parse_payload(_read_payload(fd, int(found[1], 16)))
    except (OSError, OverflowError, ValueError):
        return ()
    finally:
        os.close(fd)


def _read_maps(path: str) -> bytes:
    """Read the beginning of a file that gives a page at a time."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    pieces, size = [], 0
    try:
        while size < MAX_MAPS_BYTES and (piece := os.read(fd, MAX_MAPS_BYTES)):
            pieces.append(piece)
            size += len(piece)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(pieces)


def _read_payload(fd: int, addr: int) -> bytes:
    """Read what is whole: its time is the same before and after.

    Raises:
        OSError, ValueError: It cannot be read, or is none.
    """
    for _ in range(_TRIES):
        header = os.pread(fd, _HEADER.size, addr)
        if len(header) < _HEADER.size:
            break
        signature, version, size, published_ns, payload = _HEADER.unpack(header)
        if (signature, version) != (_SIGNATURE, _VERSION) or size > MAX_PAYLOAD_BYTES:
            break
        data = os.pread(fd, size, payload) if published_ns else b""
        if data and os.pread(fd, _HEADER.size, addr) == header:
            return data
    raise ValueError("no context")


def parse_payload(data: bytes) -> Attributes:
    """Give the attributes of the resource in a payload.

    Raises:
        ValueError: It is none.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415 (few processes publish one)
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource  # noqa: PLC0415

    found: dict[str, str] = {}
    try:
        for number, value in read_fields(data):
            if number != _RESOURCE or not isinstance(value, bytes):
                continue
            for entry in Resource.FromString(value).attributes[:MAX_ATTRIBUTES]:
                text = _text(entry.value)
                if text and entry.key and not entry.key.startswith(_OURS):
                    found[entry.key[:MAX_KEY_CHARS]] = text[:MAX_CHARS]
    except DecodeError as err:
        raise ValueError("no resource") from err
    return tuple(found.items())


def _text(value: common_pb2.AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "bool_value":
        return str(value.bool_value).lower()
    if kind in {"string_value", "int_value", "double_value"}:
        return str(getattr(value, kind))
    return ""  # lists and tables are no attributes of a process that anybody asked for
