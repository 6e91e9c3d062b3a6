# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent dump`: the stack of every thread of a process, or of a core file, now."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer looks at the annotation)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from typing import TextIO

    from otelagent.dump.show import Report


def dump(
    pid: Annotated[
        int | None,
        typer.Option("--pid", "-p", metavar="PID", min=1, help="A process that runs."),
    ] = None,
    core: Annotated[
        str, typer.Option("--core", metavar="FILE", help="A core file, also .zst or .xz.")
    ] = "",
    native: Annotated[
        bool, typer.Option("--native/--no-native", help="Show machine code and the kernel, too.")
    ] = True,
    nonblocking: Annotated[
        bool,
        typer.Option("--nonblocking", help="Do not stop the process; stacks may be torn."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    sysroot: Annotated[
        Path | None,
        typer.Option(
            "--sysroot",
            metavar="DIR",
            help="Root directory of the machine that a core is of.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    debug_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--debug-dir",
            metavar="DIR",
            help="Look here, too, for debug files and for what a core lacks.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Print the stack of every thread of a process or a core file, the newest frame first.

    A process is stopped for some milliseconds. Its own user may do that, where
    the kernel lets one process trace another; no BPF is used.
    """
    from otelagent.errors import ConfigError  # noqa: PLC0415 (--help imports nothing heavy)

    if (pid is None) == (not core):
        raise ConfigError("give either --pid or --core", hint="otelagent dump -p PID")
    if sysroot and not core:
        raise ConfigError("--sysroot goes with --core: a process has its own files")
    from otelagent.dump import report  # noqa: PLC0415

    folders = tuple(debug_dir or ())
    if pid is not None:
        found = report.of_process(pid, blocking=not nonblocking, debug_dirs=folders)
    else:
        found = report.of_core(core, sysroot=sysroot, debug_dirs=folders)
    found.native = native
    _print(found, json=json)


def _print(found: Report, *, json: bool) -> None:
    from otelagent.dump.show import show_json, show_text  # noqa: PLC0415
    from otelagent.profile.output import print_output  # noqa: PLC0415

    if json:
        from json import dumps  # noqa: PLC0415

        text = dumps(show_json(found), indent=1) + "\n"
    else:
        text = "\n".join(show_text(found)) + "\n"

    def write(stream: TextIO) -> None:
        stream.write(text)

    print_output(write)
