# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent agent`: sample all the time, and send or keep what was sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from otelagent import __version__
from otelagent.cli.sharedoptions import (  # noqa: TC001 (typer looks at the annotations)
    Cgroups,
    Duration,
    Pids,
    Quiet,
    Verbose,
)

if TYPE_CHECKING:
    from otelagent.config.resolve import Resolved

Config = Annotated[
    str,
    typer.Option(
        "--config", metavar="FILE", help="Read settings from this YAML file; or $OTELAGENT_CONFIG."
    ),
]


def print_version(wanted: bool) -> None:
    """Answer --version."""
    if wanted:
        typer.echo(f"otelagent {__version__}")
        raise typer.Exit


def print_copyright(wanted: bool) -> None:
    """Answer --copyright."""
    if wanted:
        typer.echo(_COPYRIGHT)
        raise typer.Exit


_COPYRIGHT = """\
Copyright The otelagent authors

Licensed under the Apache License, version 2.0; programs that run in the kernel (ebpf/) under
GPL-2.0-only or BSD-2-Clause. Without warranties of any kind, as far as the law allows."""
Version = Annotated[
    bool,
    typer.Option("--version", help="Show the version.", callback=print_version, is_eager=True),
]
Copyright = Annotated[
    bool,
    typer.Option("--copyright", help="Show whose it is.", callback=print_copyright, is_eager=True),
]


def agent(
    context: typer.Context,
    config: Config = "",
    pid: Pids = None,
    cgroup: Cgroups = None,
    duration: Duration = "",
    quiet: Quiet = False,
    verbose: Verbose = 0,
    _version: Version = False,
    _copyright: Copyright = False,
) -> None:
    """Sample the whole system all the time; send profiles by OTLP, or keep them here.

    Options may be written with one dash. Each setting is also a variable (OTELAGENT_…) and a
    key of the file: otelagent config show lists what holds. Nothing is sent unless a receiver
    is named. With -p or --cgroup only that is sampled. A TIME is 200ms, 5s or 2m30s,
    a SIZE 4096, 64MiB or 1G, a SHARE 1% or 0.01, a PART 0 to 1, and BOOL true or false.
    """
    import os  # noqa: PLC0415 (--help imports nothing heavy)
    from pathlib import Path  # noqa: PLC0415

    from otelagent import log  # noqa: PLC0415
    from otelagent.cli.agentoptions import given  # noqa: PLC0415
    from otelagent.cli.agentrun import run  # noqa: PLC0415
    from otelagent.cli.request import Request  # noqa: PLC0415
    from otelagent.config.resolve import options_of, resolve  # noqa: PLC0415

    log.configure(verbose)

    def read() -> Resolved:
        return resolve(given(context), os.environ, config)

    resolved = read()
    settings = resolved.settings
    base = options_of(resolved)
    run(
        Request(
            base=base,
            command=(),
            pids=tuple(pid or ()),
            cgroups=tuple(cgroup or ()),
            everything=not pid and not cgroup,
            frequency_hz=settings.samples_per_second,
            duration=duration,
            event="cpu-clock",
            max_frames=settings.max_frames,
            quiet=quiet,
            verbose=verbose,
            symbols=not settings.no_symbols,
            debuginfod="",
            btf_path=Path(settings.btf_path) if settings.btf_path else None,
            check_kernel=not settings.no_kernel_version_check,
        ),
        resolved,
        read,
    )
