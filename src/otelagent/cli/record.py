# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent record`: sample, then write a profile."""

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


def record(
    command: Command = None,
    pid: Pids = None,
    cgroup: Cgroups = None,
    everything: Everything = False,
    frequency: Frequency = 99,
    duration: Duration = "",
    output: Output = "",
    format_name: FormatName = "",
    event: Event = "cpu-clock",
    max_frames: MaxFrames = options.DEFAULT_FRAMES,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    no_symbols: NoSymbols = False,
    debuginfod: Debuginfod = "",
    btf_path: BtfPath = None,
    no_kernel_version_check: NoVersionCheck = False,
) -> None:
    """Sample stacks and write a profile; by default a flame graph as HTML.

    Formats by ending: .html, .pb.gz (pprof), .folded or .collapsed,
    .speedscope.json, .otlp, .otlp.json, .json and .md (summaries).
    """
    from otelagent import log  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.cli.recorder import run  # noqa: PLC0415
    from otelagent.cli.request import Request  # noqa: PLC0415

    log.configure(verbose)
    run(
        Request(
            command=tuple(command or ()),
            pids=tuple(pid or ()),
            cgroups=tuple(cgroup or ()),
            everything=everything,
            frequency_hz=frequency,
            duration=duration,
            output=output,
            format_name=format_name,
            event=event,
            max_frames=max_frames,
            force=force,
            quiet=quiet,
            verbose=verbose,
            symbols=not no_symbols,
            debuginfod=debuginfod,
            btf_path=btf_path,
            check_kernel=not no_kernel_version_check,
        )
    )
