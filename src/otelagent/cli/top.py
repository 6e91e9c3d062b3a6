# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent top`: the hottest functions, live."""

from __future__ import annotations

from typing import Annotated

import typer

from otelagent.cli import recordoptions as options  # noqa: TC001 (typer looks at the annotations)

Interval = Annotated[
    str,
    typer.Option("--interval", metavar="TIME", help="Show anew each 2s; 1s if not given."),
]


def top(
    command: options.Command = None,
    pid: options.Pids = None,
    cgroup: options.Cgroups = None,
    everything: options.Everything = False,
    frequency: options.Frequency = 99,
    duration: options.Duration = "",
    interval: Interval = "",
    event: options.Event = "cpu-clock",
    max_frames: options.MaxFrames = 1024,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    no_symbols: options.NoSymbols = False,
    debuginfod: options.Debuginfod = "",
    btf_path: options.BtfPath = None,
    no_kernel_version_check: options.NoVersionCheck = False,
) -> None:
    """Show the hottest functions live: self and total time; h shows the keys.

    Where standard output is no terminal: a table at the end, or one for each
    --interval. A COMMAND is kept off the terminal while the table is shown.
    """
    from otelagent import log  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.cli.request import Request  # noqa: PLC0415
    from otelagent.cli.toplive import run  # noqa: PLC0415
    from otelagent.formats.durations import parse_duration  # noqa: PLC0415

    log.configure(verbose)
    run(
        Request(
            command=tuple(command or ()),
            pids=tuple(pid or ()),
            cgroups=tuple(cgroup or ()),
            everything=everything,
            frequency_hz=frequency,
            duration=duration,
            event=event,
            max_frames=max_frames,
            quiet=quiet,
            verbose=verbose,
            symbols=not no_symbols,
            debuginfod=debuginfod,
            btf_path=btf_path,
            check_kernel=not no_kernel_version_check,
        ),
        parse_duration(interval) if interval else None,
    )
