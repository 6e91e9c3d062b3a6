# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent config`: which settings of the agent hold, and who gave them."""

from __future__ import annotations

from typing import Annotated

import typer

from otelagent.cli.agentoptions import SettingsCommand
from otelagent.cli.examples import epilogue

app = typer.Typer(
    help="Show which settings of the agent hold.", no_args_is_help=True, rich_markup_mode=None
)
_SECRETS = {"headers"}
"""Settings whose value may be a secret; that they are set is shown."""


@app.callback()
def _group() -> None:
    """Show which settings of the agent hold."""


@app.command(
    short_help="Print every setting and where its value comes from.",
    epilog=epilogue("config show"),
    cls=SettingsCommand,
)
def show(
    context: typer.Context,
    config: Annotated[
        str,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Read settings from this YAML file; or $OTELAGENT_CONFIG.",
        ),
    ] = "",
) -> None:
    """Print every setting of the agent as a line of a file, and where its value comes from.

    Takes the options of agent, so that a command line can be tried. Status 78: a wrong value
    in the file or the environment.
    """
    import os  # noqa: PLC0415 (--help imports nothing heavy)

    from otelagent import log  # noqa: PLC0415
    from otelagent.cli.agentoptions import given  # noqa: PLC0415
    from otelagent.config.resolve import resolve  # noqa: PLC0415
    from otelagent.config.settings import NAMES  # noqa: PLC0415
    from otelagent.config.settings import show as shown  # noqa: PLC0415

    log.configure(0)
    resolved = resolve(given(context), os.environ, config)
    for key, name in NAMES.items():
        value = shown(getattr(resolved.settings, name))
        if value and key in _SECRETS:
            value = "(not shown)"
        typer.echo(f"{f'{key}: {value}':<44}  # {resolved.sources[key]}")
