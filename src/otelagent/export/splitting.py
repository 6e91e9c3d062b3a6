# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Samples into requests, none larger than a receiver takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.export.otlp_profiles import encode_profiles, window
from otelagent.export.records import Record
from otelagent.model import ProfileInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otelagent.export.otlp_profiles import Entry

MAX_BYTES = 4_000_000
"""Servers of gRPC take 4 MiB (4,194,304) unless told otherwise, measured unpacked."""


def encode_requests(
    info: ProfileInfo, entries: Iterable[Entry], most_bytes: int = MAX_BYTES
) -> Iterator[Record]:
    """Make as few requests as are needed; `info.notes` go with the first one only.

    A single group of samples that is larger by itself is sent as it is.
    """
    todo = [sorted(entries, key=lambda entry: entry[1].pid)]
    while todo:
        part = todo.pop()
        data = encode_profiles(info, part).SerializeToString()
        if len(data) > most_bytes and len(part) > 1:
            todo += [part[len(part) // 2 :], part[: len(part) // 2]]
            continue
        start_ns, duration_ns = window(info, part)
        samples = sum(group.count for *_keys, group in part)
        yield Record(data, samples, start_ns, start_ns + duration_ns)
        info = _without_notes(info)


def _without_notes(info: ProfileInfo) -> ProfileInfo:
    return ProfileInfo(
        info.sample_type,
        info.period_type,
        info.period_ns,
        info.start_unix_ns,
        info.duration_ns,
        info.host,
    )
