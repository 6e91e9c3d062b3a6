# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The `otelagent` program: commands, and the one place where errors become exit statuses."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from otelagent.cli.diff import diff
from otelagent.cli.elf import elf
from otelagent.cli.record import record
from otelagent.cli.report import report
from otelagent.errors import AgentError

app = typer.Typer(
    name="otelagent",
    help="Profile Linux: kernel, native and Python code in one stack.",
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMAND = {"allow_interspersed_args": False, "ignore_unknown_options": False}
app.command(context_settings=_COMMAND)(record)
app.command()(report)
app.command()(diff)
app.command()(elf)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"otelagent {version('otelagent')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Profile Linux: kernel, native and Python code in one stack."""


def main() -> None:
    """Run the command line; nobody sees a traceback unless OTELAGENT_DEBUG=1."""
    try:
        app()
    except AgentError as err:
        _fail(str(err), err.hint, err.exit_status, err)
    except KeyboardInterrupt as err:
        _fail("interrupted", "", 130, err)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as err:  # noqa: BLE001 (the last resort)
        what = f"internal error: {type(err).__name__}: {err}"
        _fail(what, "OTELAGENT_DEBUG=1 shows where; please report it", 1, err)


def _fail(message: str, hint: str, status: int, err: BaseException) -> None:
    if os.environ.get("OTELAGENT_DEBUG") == "1":
        raise err
    sys.stderr.write(f"otelagent: {message}\n" + (f"  {hint}\n" if hint else ""))
    sys.exit(status)
