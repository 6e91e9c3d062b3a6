# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The options of `record`, some of which other commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otelagent import options

Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- COMMAND", help="Run this and profile all of it."),
]
Pids = Annotated[
    list[int] | None,
    typer.Option(
        "--pid", "-p", metavar="PID", min=1, help="Profile a process and its future children."
    ),
]
Cgroups = Annotated[
    list[str] | None,
    typer.Option("--cgroup", metavar="PATH", help="Profile a cgroup and those below it."),
]
Everything = Annotated[bool, typer.Option("--all", "-a", help="Profile the whole system.")]
Frequency = Annotated[
    int,
    typer.Option(
        "--frequency",
        "-F",
        "-r",
        metavar="HZ",
        min=1,
        max=options.MAX_HZ,
        help=options.FREQUENCY_HELP,
    ),
]
Duration = Annotated[
    str, typer.Option("--duration", "-d", metavar="TIME", help="Stop after 30, 30s or 2m30s.")
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write; - is standard output. [default: otelagent-HOST-TIME.html]",
    ),
]
FormatName = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="html, pprof, collapsed, speedscope, otlp, otlp.json, json, md; else by the ending.",
    ),
]
Event = Annotated[
    str,
    typer.Option(
        "--event", "-e", metavar="EVENT", help="cpu-clock, or cycles where there is a PMU."
    ),
]
MaxFrames = Annotated[
    int,
    typer.Option(
        "--max-frames", metavar="N", min=1, max=options.MAX_FRAMES, help=options.FRAMES_HELP
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Say more; -vv: much more."
    ),
]
NoSymbols = Annotated[bool, typer.Option("--no-symbols", help=options.NO_SYMBOLS_HELP)]
Debuginfod = Annotated[
    str, typer.Option("--debuginfod", metavar="URL", help="Ask this server for debug files.")
]
BtfPath = Annotated[
    Path | None,
    typer.Option("--btf-path", metavar="FILE", help=options.BTF_HELP),
]

NoVersionCheck = Annotated[
    bool,
    typer.Option("--no-kernel-version-check", help=options.NO_CHECK_HELP),
]
