# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, and what `record` and `top` ask for together."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from otelagent import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.cli.request import Request

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
Event = Annotated[
    str,
    typer.Option(
        "--event",
        "-e",
        metavar="EVENT",
        help="cpu-clock (time), or cycles where there is a hardware counter.",
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


def asked(
    command: Command = None,
    pid: Pids = None,
    cgroup: Cgroups = None,
    everything: Everything = False,
    frequency: Frequency = 99,
    duration: Duration = "",
    event: Event = "cpu-clock",
    max_frames: MaxFrames = options.DEFAULT_FRAMES,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    no_symbols: NoSymbols = False,
    debuginfod: Debuginfod = "",
    btf_path: BtfPath = None,
    no_kernel_version_check: NoVersionCheck = False,
) -> Request:
    """Say what is to be sampled, and how; the parameters are the options."""
    from otelagent import log  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.cli.request import Request  # noqa: PLC0415

    log.configure(verbose)
    return Request(
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
    )


def sampling(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `asked` before its own; it is called with their `Request`."""
    shared, own = (inspect.signature(each).parameters for each in (asked, function))

    def command(**given: Any) -> None:  # noqa: ANN401 (what typer parsed)
        request = asked(**{name: given.pop(name) for name in shared})
        function(request, **given)

    _, *others = own.values()
    names = {"Request": object}  # which is no option
    hints = get_type_hints(asked, localns=names, include_extras=True)
    hints |= get_type_hints(function, localns=names, include_extras=True)
    parameters = [each.replace(annotation=hints[each.name]) for each in (*shared.values(), *others)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command
