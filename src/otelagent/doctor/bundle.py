# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A support archive: the report and what the kernel says of itself, and nothing of anybody's.

No environment, no command lines, no paths of users' files, no names of hosts: a
report names runtimes and kernels. What is added is copied from a fixed list.
"""

from __future__ import annotations

import io
import tarfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from otelagent.doctor.screen import lines

if TYPE_CHECKING:
    from otelagent.doctor.report import Report

_FILES = (
    "/proc/version",
    "/proc/sys/kernel/perf_event_paranoid",
    "/proc/sys/kernel/unprivileged_bpf_disabled",
    "/proc/sys/kernel/kptr_restrict",
    "/proc/sys/net/core/bpf_jit_enable",
    "/sys/kernel/security/lockdown",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/etc/os-release",
)
_CONFIG = Path("/boot")
_MAX_BYTES = 1 << 20


def report_json(report: Report) -> bytes:
    """Encode a report, with its verdict, as indented JSON."""
    values = {"verdict": str(report.verdict), **asdict(report)}
    return msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n"


def contents(report: Report) -> dict[str, bytes]:
    """Gather the archive's files by name; what is not there is left out."""
    found = {"report.json": report_json(report), "report.txt": "\n".join(lines(report)).encode()}
    config = _CONFIG / f"config-{report.kernel['release']}"
    for path in (*map(Path, _FILES), config):
        try:
            with path.open("rb") as stream:
                found[str(path).lstrip("/")] = stream.read(_MAX_BYTES)
        except OSError:
            continue
    return found


def write_bundle(report: Report, stream: BinaryIO) -> None:
    """Write a gzipped tar."""
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in contents(report).items():
            member = tarfile.TarInfo(f"otelagent-doctor/{name}")
            member.size, member.mtime, member.mode = len(data), int(time.time()), 0o644
            archive.addfile(member, io.BytesIO(data))
