# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The options that ask for waits, and what they mean together."""

from __future__ import annotations

from typing import Annotated

import typer

from otelagent.errors import ConfigError
from otelagent.options import OffCpu

LEAST_THRESHOLD = 0.001
OffCpuOnly = Annotated[
    bool,
    typer.Option("--off-cpu", help="Where threads wait, and for how long, and not where they run."),
]
Wall = Annotated[bool, typer.Option("--wall", help="Both: where threads run, and where they wait.")]
OffCpuThreshold = Annotated[
    float | None,
    typer.Option(
        "--off-cpu-threshold",
        metavar="P",
        help="Follow this part of all switches, 0.001 to 1; each counts for the rest. [default: 1]",
    ),
]
OffCpuMin = Annotated[
    str,
    typer.Option("--off-cpu-min", metavar="TIME", help="Leave shorter waits out. [default: 1us]"),
]


def choose_waits(
    off_cpu: bool, wall: bool, threshold: float | None, shortest: str
) -> OffCpu | None:
    """Say which waits are followed; None for none.

    Raises:
        ConfigError: What was given makes no sense.
    """
    if off_cpu and wall:
        raise ConfigError("say --off-cpu or --wall, not both", hint="--wall has waits, too")
    if not (off_cpu or wall):
        if threshold is not None or shortest:
            raise ConfigError("--off-cpu-threshold and --off-cpu-min need --off-cpu or --wall")
        return None
    from otelagent.formats.durations import parse_duration  # noqa: PLC0415 (not for --help)

    found = OffCpu()
    if threshold is not None:
        if not LEAST_THRESHOLD <= threshold <= 1:
            raise ConfigError(f"--off-cpu-threshold {threshold:g} is not {LEAST_THRESHOLD} to 1")
        found = found._replace(chance=threshold)
    if shortest:
        found = found._replace(min_ns=round(parse_duration(shortest) * 1e9))
    return found
