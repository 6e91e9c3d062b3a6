# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent diff A B`: what changed between two profiles."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from typing import BinaryIO

    from otelagent.profile.model import Profile

FORMATS = {"html": (".html", ".htm"), "json": (".json",), "table": (".txt",)}


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="The earlier profile.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The later profile.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", help="Write here; - is standard output."),
    ] = "",
    format_name: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="FORMAT", help="html, json or table; else by the ending."
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Functions to show.")] = 20,
) -> None:
    """Compare two saved profiles: a table, or a differential flame graph (-o FILE.html).

    Each value is a share of its own profile, so that profiles of different
    length can be compared. Red is more than before, blue is less.
    """
    from otelagent.profile.diff import print_diff  # noqa: PLC0415 (imports are lazy)
    from otelagent.profile.formats import registry  # noqa: PLC0415
    from otelagent.profile.output import check_output, print_output, write_output  # noqa: PLC0415

    chosen = chosen_format(output, format_name)
    if output:
        check_output(output, force=force)
    profiles = registry.read(before), registry.read(after)
    if chosen == "table" and output in {"", "-"}:
        print_output(lambda stream: print_diff(*profiles, stream, top))
        return

    def write(stream: BinaryIO) -> None:
        write_diff(chosen, profiles, (before, after), stream, top)

    write_output(output or "-", write, force=force)
    name = "standard output" if output in {"", "-"} else output
    typer.echo(f"otelagent: wrote {name}: {after} against {before} as {chosen}", err=True)


def chosen_format(output: str, format_name: str) -> str:
    """Tell which format is wanted.

    Raises:
        ConfigError: There is no such format, or the ending names none.
    """
    from otelagent.errors import ConfigError  # noqa: PLC0415

    hint = f"a difference can be written as {', '.join(FORMATS)}"
    if format_name:
        if format_name not in FORMATS:
            raise ConfigError(f"no format {format_name!r} for a difference", hint=hint)
        return format_name
    if output in {"", "-"}:
        return "table"
    for name, endings in FORMATS.items():
        if output.lower().endswith(endings):
            return name
    raise ConfigError(f"the ending of {output!r} names no format", hint=hint)


def write_diff(
    chosen: str,
    profiles: tuple[Profile, Profile],
    names: tuple[str, str],
    stream: BinaryIO,
    top: int,
) -> None:
    """Write the difference in one of `FORMATS`."""
    from otelagent.profile import diff as differences  # noqa: PLC0415

    if chosen == "html":
        differences.write_html(*profiles, names, stream)
    elif chosen == "json":
        differences.write_json(*profiles, names, stream)
    else:
        text = io.StringIO()
        differences.print_diff(*profiles, text, top)
        stream.write(text.getvalue().encode(errors="backslashreplace"))
