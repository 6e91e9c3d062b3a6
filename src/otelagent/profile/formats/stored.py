# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files of a store (`.otlp.zst`): records of requests, merged into one profile.

The format is `otelagent.export.records`. A directory of such files is read by time: which
files and records are wanted is told by their names and headers.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from typing import TYPE_CHECKING, BinaryIO

from otelagent.errors import FormatError
from otelagent.profile.model import Profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from otelagent.export.otlp_profiles import Entry
    from otelagent.export.records import Record
    from otelagent.model import ProfileInfo, SampleGroup

CANNOT_HOLD = ()
ENDING = ".otlp.zst"
FOREVER_NS = 1 << 63
DAMAGED = "store.files_damaged"
"""Note: files of which only the records before the damage were read."""


def write(profile: Profile, stream: BinaryIO) -> None:
    """Write as many records as the profile needs requests."""
    from otelagent.export.records import pack_record  # noqa: PLC0415 (protobuf is heavy)
    from otelagent.export.splitting import encode_requests  # noqa: PLC0415

    stream.writelines(pack_record(record) for record in encode_requests(profile, profile))


def read(data: bytes) -> Profile:
    """Read one file; of a damaged one, what comes before the damage.

    Raises:
        FormatError: Nothing in it can be read.
    """
    merger = _Merger(0, FOREVER_NS)
    try:
        merger.add_file(io.BytesIO(data))
    except FormatError:
        if not merger.records:
            raise
        merger.damaged += 1
    return merger.profile()


def read_store(path: Path, since_ns: int = 0, until_ns: int = FOREVER_NS) -> Profile:
    """Read what a directory has of a time (UNIX ns).

    Where samples have time stamps, just those of the time are taken; else all of the
    requests that overlap it.

    Raises:
        FormatError: It is no directory of a store.
    """
    try:
        names = sorted(each.name for each in path.iterdir() if each.name.endswith(ENDING))
    except OSError as err:
        raise FormatError(f"{path}: {err.strerror or err}") from err
    if not names:
        raise FormatError(f"{path}: there are no files of a store ({ENDING}) in it")
    begins = [_begin_of(name) for name in names]
    # A file ends where the next one begins, but for its last request's overlap.
    first = max(bisect_left(begins, since_ns) - 1, 0)
    merger = _Merger(since_ns, until_ns)
    for name, begin in zip(names[first:], begins[first:], strict=True):
        if begin >= until_ns:
            break
        try:
            with (path / name).open("rb") as stream:
                merger.add_file(stream)
        except FileNotFoundError:
            continue  # removed for a newer one meanwhile
        except OSError as err:
            raise FormatError(f"{path / name}: {err.strerror or err}") from err
        except FormatError:
            # The agent may be in the midst of writing the newest one.
            merger.damaged += name != names[-1]
    return merger.profile()


def _begin_of(name: str) -> int:
    head = name.partition("-")[0]
    return int(head) if head.isdecimal() else 0


class _Merger:
    def __init__(self, since_ns: int, until_ns: int) -> None:
        self._since_ns = since_ns
        self._until_ns = until_ns
        self._merged: Profile | None = None
        self._infos: list[ProfileInfo] = []
        self.records = 0
        self.damaged = 0

    def add_file(self, stream: BinaryIO) -> None:
        from otelagent.export.records import read_records  # noqa: PLC0415

        for record in read_records(stream, self._since_ns, self._until_ns):
            self._add(record)

    def _add(self, record: Record) -> None:
        from google.protobuf.message import DecodeError  # noqa: PLC0415
        from opentelemetry.proto.collector.profiles.v1development import (  # noqa: PLC0415
            profiles_service_pb2 as service,
        )

        from otelagent.export.otlp_reading import decode_profiles  # noqa: PLC0415

        try:
            request = service.ExportProfilesServiceRequest.FromString(record.data)
        except DecodeError as err:
            raise FormatError("a record holds no OTLP profiles") from err
        info, entries = decode_profiles(request)
        self.records += 1
        self._infos.append(info)
        if self._merged is None:
            self._merged = Profile.of(info, ())
        self._add_entries(self._merged, entries)

    def _add_entries(self, merged: Profile, entries: Iterable[Entry]) -> None:
        for trace, process, thread, group in entries:
            count, value, times = self._cut(group)
            if count:
                merged.add(trace, process, thread, count, value, times)

    def _cut(self, group: SampleGroup) -> tuple[int, int, Sequence[int]]:
        """Leave the samples of the time."""
        times = [at for at in group.timestamps_ns if self._since_ns <= at < self._until_ns]
        if len(group.timestamps_ns) != group.count or len(times) == group.count:
            return group.count, group.value, group.timestamps_ns
        return len(times), group.value * len(times) // group.count, times

    def profile(self) -> Profile:
        """Give what was merged, with the time that it is of."""
        from otelagent.export.otlp_reading import join_infos  # noqa: PLC0415

        merged = self._merged or Profile()
        if self._infos:
            joined = join_infos(self._infos)
            start_ns = max(joined.start_unix_ns, self._since_ns)
            end_ns = min(joined.start_unix_ns + joined.duration_ns, self._until_ns)
            merged.start_unix_ns, merged.duration_ns = start_ns, max(end_ns - start_ns, 0)
            merged.notes = dict(joined.notes)
        if self.damaged:
            merged.notes[DAMAGED] = self.damaged
        return merged
