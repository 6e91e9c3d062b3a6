# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""OTLP files: one serialized `ExportProfilesServiceRequest`, or the same as OTLP JSON.

`.otlp` is the binary message and nothing else. `.otlp.json` is protobuf's JSON
form with lowerCamelCase names, numbers for enums and ids in hex, as OTLP asks.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, BinaryIO

from otelagent.errors import FormatError
from otelagent.profile.model import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

CANNOT_HOLD = ()

_HEX_IDS = ("profileId", "traceId", "spanId")


def write(profile: Profile, stream: BinaryIO) -> None:
    """Write the binary form."""
    from otelagent.export.otlp_profiles import encode_profiles  # noqa: PLC0415 (protobuf is heavy)

    stream.write(encode_profiles(profile, profile).SerializeToString())


def read(data: bytes) -> Profile:
    """Parse the binary form.

    Raises:
        FormatError: It is not a request of OTLP profiles.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.profiles.v1development import (  # noqa: PLC0415
        profiles_service_pb2,
    )

    from otelagent.export.otlp_reading import decode_profiles  # noqa: PLC0415

    request = profiles_service_pb2.ExportProfilesServiceRequest()
    try:
        request.ParseFromString(data)
    except DecodeError as err:
        raise FormatError("not an OTLP profiles request") from err
    return Profile.of(*decode_profiles(request))


def write_json(profile: Profile, stream: BinaryIO) -> None:
    """Write the JSON form, on one line."""
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    from otelagent.export.otlp_profiles import encode_profiles  # noqa: PLC0415

    request = MessageToDict(encode_profiles(profile, profile), use_integers_for_enums=True)
    _recode_ids(request, lambda text: base64.b64decode(text).hex())
    stream.write(json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode())
    stream.write(b"\n")


def read_json(data: bytes) -> Profile:
    """Parse the JSON form.

    Raises:
        FormatError: It is not a request of OTLP profiles.
    """
    from google.protobuf.json_format import ParseDict, ParseError  # noqa: PLC0415
    from opentelemetry.proto.collector.profiles.v1development import (  # noqa: PLC0415
        profiles_service_pb2,
    )

    from otelagent.export.otlp_reading import decode_profiles  # noqa: PLC0415

    request = profiles_service_pb2.ExportProfilesServiceRequest()
    try:
        tree = json.loads(data)
        if not isinstance(tree, dict):
            raise FormatError("not OTLP profiles in JSON")
        _recode_ids(tree, lambda text: base64.b64encode(bytes.fromhex(text)).decode())
        ParseDict(tree, request, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, RecursionError) as err:
        raise FormatError("not OTLP profiles in JSON") from err
    return Profile.of(*decode_profiles(request))


def _recode_ids(tree: Any, recode: Callable[[str], str]) -> None:  # noqa: ANN401 (parsed JSON)
    """Replace the ids of profiles and links, wherever they are."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in _HEX_IDS and isinstance(value, str):
                tree[key] = recode(value)
            else:
                _recode_ids(value, recode)
    elif isinstance(tree, list):
        for value in tree:
            _recode_ids(value, recode)
