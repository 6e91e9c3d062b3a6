# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a receiver said to a request, whatever the protocol was."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What is to become of the request."""

    DELIVERED = auto()
    AGAIN = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said.

    Attributes:
        verdict: What is to become of the request.
        what: What went wrong, in one line; the receiver's words where it had some.
        wait_s: How long the receiver asks to be left alone; 0 if it does not say.
        rejected: Profiles that it refused of a request that it took.
        hint: What a user can do about it.
    """

    verdict: Verdict
    what: str = ""
    wait_s: float = 0.0
    rejected: int = 0
    hint: str = ""


def words_of(text: str, limit: int = 200) -> str:
    """Make one short line of what a receiver said; it may hold anything."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def delivered(body: bytes) -> Answer:
    """Read an `ExportProfilesServiceResponse`; what is none has still taken the request.

    That to metrics has the same fields under other names.
    """
    if not body:
        return Answer(Verdict.DELIVERED)
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.profiles.v1development import (  # noqa: PLC0415
        profiles_service_pb2 as service,
    )

    try:
        partial = service.ExportProfilesServiceResponse.FromString(body).partial_success
    except DecodeError:
        return Answer(Verdict.DELIVERED, "the receiver's answer cannot be read")
    said = words_of(partial.error_message)
    return Answer(Verdict.DELIVERED, said, rejected=max(partial.rejected_profiles, 0))
