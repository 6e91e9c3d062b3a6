# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent diff A B`: what changed between two profiles."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Annotated

import typer

from otelagent.cli.sharedoptions import Force  # noqa: TC001 (typer looks at the annotations)
from otelagent.cli.sources import Since, Until, read_profile, window

if TYPE_CHECKING:
    from typing import BinaryIO

    from otelagent.profile.model import Profile

FORMATS = {"html": (".html", ".htm"), "json": (".json",), "table": (".txt",)}


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="The earlier profile, or a store.")],
    after: Annotated[
        str, typer.Argument(metavar="[B]", help="The later profile.", show_default=False)
    ] = "",
    since: Since = "",
    until: Until = "",
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
    force: Force = False,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Functions to show.")] = 20,
) -> None:
    """Compare two saved profiles: a table, or a differential flame graph (-o FILE.html).

    Each value is a share of its own profile, so that profiles of different
    length can be compared. Red is more than before, blue is less. A store alone,
    with --since, is compared with itself: that time, with the time of the same
    length before it.
    """
    from otelagent.profile.diff import print_diff  # noqa: PLC0415 (imports are lazy)
    from otelagent.profile.output import check_output, print_output, write_output  # noqa: PLC0415

    chosen = chosen_format(output, format_name)
    if output:
        check_output(output, force=force)
    profiles = read_both(before, after, window(since, until))
    if not after:
        before, after = f"{before} before that", f"{before} since {since}"
    for name, profile in zip((before, after), profiles, strict=True):
        if not profile.samples:
            typer.echo(f"otelagent: {name}: there are no samples in this profile", err=True)
    if chosen == "table" and output in {"", "-"}:
        print_output(lambda stream: print_diff(*profiles, stream, top))
        return

    def write(stream: BinaryIO) -> None:
        write_diff(chosen, profiles, (before, after), stream, top)

    write_output(output or "-", write, force=force)
    name = "standard output" if output in {"", "-"} else output
    typer.echo(f"otelagent: wrote {name}: {after} against {before} as {chosen}", err=True)


def read_both(before: str, after: str, times: tuple[int, int]) -> tuple[Profile, Profile]:
    """Read two profiles, or of one store a time and the one before it.

    Raises:
        ConfigError: There is one only, and no time.
        FormatError: One cannot be read.
    """
    from otelagent.errors import ConfigError  # noqa: PLC0415

    if after:
        return read_profile(before, times), read_profile(after, times)
    since_ns, until_ns = times
    if not since_ns:
        raise ConfigError("say what to compare with", hint="diff A B, or diff STORE --since 1h")
    length = min(until_ns, time.time_ns()) - since_ns
    return read_profile(before, (since_ns - length, since_ns)), read_profile(before, times)


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
