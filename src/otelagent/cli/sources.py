# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `report` and `diff` read: a profile's file, or a store and a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from otelagent.profile.model import Profile

Since = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Of a store: from then on: 90s, 10m, 2h (ago), or 2026-11-21T09:00.",
    ),
]
Until = Annotated[
    str,
    typer.Option(
        "--until", metavar="TIME", help="Of a store: up to then, written likewise; else up to now."
    ),
]


def window(since: str, until: str) -> tuple[int, int]:
    """Turn what was said into UNIX ns; nothing said is all there is.

    Raises:
        ConfigError: It is no time, or the end is before the beginning.
    """
    from otelagent.errors import ConfigError  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.formats.times import parse_time  # noqa: PLC0415
    from otelagent.profile.formats.stored import FOREVER_NS  # noqa: PLC0415

    now_ns = time.time_ns()
    since_ns = parse_time(since, now_ns) if since else 0
    until_ns = parse_time(until, now_ns) if until else FOREVER_NS
    if until_ns <= since_ns:
        raise ConfigError("--until is not after --since", hint="--since 2h --until 1h, for example")
    return since_ns, until_ns


def read_profile(path: str, times: tuple[int, int]) -> Profile:
    """Read a file, or a directory's part of a time.

    Raises:
        ConfigError: A time of a single file.
        FormatError: It cannot be read.
    """
    from otelagent.errors import ConfigError  # noqa: PLC0415
    from otelagent.profile.formats import registry  # noqa: PLC0415
    from otelagent.profile.formats.stored import DAMAGED, FOREVER_NS, read_store  # noqa: PLC0415

    if not Path(path).is_dir():
        if times != (0, FOREVER_NS):
            raise ConfigError(f"{path}: --since and --until are for a store, a directory")
        return registry.read(path)
    profile = read_store(Path(path), *times)
    if damaged := profile.notes.get(DAMAGED):
        typer.echo(
            f"otelagent: {path}: {damaged} files are damaged and were read in part", err=True
        )
    return profile
