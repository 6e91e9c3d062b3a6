# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent top`: the hottest functions, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from otelagent.cli.sharedoptions import sampling

if TYPE_CHECKING:
    from otelagent.cli.request import Request

Interval = Annotated[
    str,
    typer.Option("--interval", metavar="TIME", help="Show anew each 2s; 1s if not given."),
]


@sampling
def top(request: Request, interval: Interval = "") -> None:
    """Show the hottest functions live: self and total time; h shows the keys.

    Where standard output is no terminal: a table at the end, or one for each
    --interval. A COMMAND is kept off the terminal while the table is shown.
    """
    from otelagent.cli.toplive import run  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.formats.durations import parse_duration  # noqa: PLC0415

    run(request, parse_duration(interval) if interval else None)
