# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent report FILE`: show a saved profile, or write it in another format."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer looks at the annotation)
from typing import TYPE_CHECKING, Annotated

import typer

from otelagent.cli.sharedoptions import Force  # noqa: TC001 (typer looks at the annotations)
from otelagent.cli.sources import Since, Until, read_profile, window

if TYPE_CHECKING:
    from otelagent.profile.formats.registry import Format
    from otelagent.profile.model import Profile

Output = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the profile here; - is standard output."
    ),
]
FormatName = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="html, pprof, collapsed, speedscope, otlp, otlp.json, otlp.zst, json or md; "
        "else by the ending.",
    ),
]


def report(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A saved profile, or a store's directory.")
    ],
    since: Since = "",
    until: Until = "",
    output: Output = "",
    format_name: FormatName = "",
    force: Force = False,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Functions to show.")] = 20,
    debug_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--debug-dir",
            metavar="DIR",
            help="Name unnamed native frames by the files and debug files in here.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Show the hottest functions of a saved profile, or write it in another format.

    Reads OTLP (.otlp, .otlp.json), pprof (.pb.gz), collapsed stacks (.folded,
    .collapsed), speedscope (.speedscope.json), otelagent's own .html, and stores
    of the agent (a directory, or its .otlp.zst files) by time.
    """
    from otelagent.profile.output import check_output, print_output  # noqa: PLC0415
    from otelagent.profile.renaming import rename_frames  # noqa: PLC0415
    from otelagent.profile.table import print_top  # noqa: PLC0415

    target = chosen_format(output, format_name)
    if target is not None:
        output = output or "-"
        check_output(output, force=force)
    profile = read_profile(file, window(since, until))
    if debug_dir:
        from otelagent.cli.debugdir import DirectoryRenamer  # noqa: PLC0415

        with DirectoryRenamer(debug_dir) as renamer:
            profile = rename_frames(profile, renamer)
    if target is None:
        print_output(lambda stream: print_top(profile, stream, top))
        if not profile.samples:
            typer.echo(f"otelagent: {file}: there are no samples in this profile", err=True)
        return
    write_profile(profile, target, output, force=force)


def chosen_format(output: str, format_name: str) -> Format | None:
    """Tell which format is wanted; None: a table on standard output.

    Raises:
        ConfigError: Neither the option nor the ending names one.
    """
    from otelagent.profile.formats import registry  # noqa: PLC0415

    if not output and not format_name:
        return None
    return registry.format_named(format_name or registry.format_of(output))


def write_profile(profile: Profile, target: Format, output: str, *, force: bool) -> None:
    """Write the profile and say on stderr what was written and what the format cannot hold."""
    from otelagent.profile.output import write_output  # noqa: PLC0415

    write_output(output, lambda stream: target.write(profile, stream), force=force)
    name = "standard output" if output == "-" else output
    lost = f"; {target.name} cannot hold: {', '.join(target.cannot_hold)}"
    said = f"otelagent: wrote {name}: {profile.samples} samples as {target.name}"
    typer.echo(said + (lost if target.cannot_hold else ""), err=True)
