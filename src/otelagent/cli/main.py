# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The `otelagent` program: commands, and the one place where errors become exit statuses."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from otelagent.cli import config
from otelagent.cli.agent import Version, agent
from otelagent.cli.agentoptions import SettingsCommand
from otelagent.cli.diff import diff
from otelagent.cli.doctor import doctor
from otelagent.cli.dump import dump
from otelagent.cli.elf import elf
from otelagent.cli.examples import epilogue
from otelagent.cli.record import record
from otelagent.cli.report import report
from otelagent.cli.top import top
from otelagent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable

_HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="otelagent",
    help="Profile Linux: kernel, native and Python code in one stack.",
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)
_COMMAND = {"allow_interspersed_args": False, "ignore_unknown_options": False}
# The list of commands cuts a docstring's first sentence at some 60 letters.


def _add(command: Callable[..., None], short_help: str, **how: Any) -> None:  # noqa: ANN401
    app.command(short_help=short_help, epilog=epilogue(command.__name__), **how)(command)


_add(record, "Sample stacks and write a profile.", context_settings=_COMMAND)
_add(top, "Show the hottest functions live.", context_settings=_COMMAND)
_add(agent, "Sample all the time; send profiles or keep them.", cls=SettingsCommand)
_add(dump, "Print the stacks of a process or a core file.")
_add(report, "Show or convert a saved profile.")
_add(diff, "Compare two saved profiles.")
_add(doctor, "Say what works on this machine, and what is missing.")
app.add_typer(config.app, name="config", context_settings=_HELP)
_add(elf, "Show how an ELF file is unwound and named.")


@app.callback()
def _options(
    _version: Version = False,
) -> None:
    """Profile Linux: kernel, native and Python code in one stack."""


def main() -> None:
    """Run the command line; nobody sees a traceback unless OTELAGENT_DEBUG=1."""
    _stand_in_for_closed_files()
    try:
        app(prog_name="otelagent")
    except AgentError as err:
        _fail(str(err), err.hint, err.exit_status, err)
    except KeyboardInterrupt as err:
        _fail("interrupted", "", 130, err)
    except Exception as err:  # noqa: BLE001 (the last resort)
        if isinstance(err, OSError) and err.errno == errno.ENOSPC:
            _fail(f"cannot write: {err.strerror}", "", 1, err)  # --help > a full disk
        what = f"internal error: {type(err).__name__}: {err}"
        _fail(what, "OTELAGENT_DEBUG=1 shows where; please report it", 1, err)
    finally:
        _settle_output()


def _stand_in_for_closed_files() -> None:
    """Occupy descriptors 0 to 2, so that no file that we open gets what is said on stderr."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # Standard output opened for reading: who writes there is told that it is closed.
            os.open(os.devnull, os.O_RDONLY if fd < 2 else os.O_WRONLY)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _settle_output() -> None:
    """Forget what cannot be written: the interpreter would fail on it again when it ends."""
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def _fail(message: str, hint: str, status: int, err: BaseException) -> None:
    if os.environ.get("OTELAGENT_DEBUG") == "1":
        raise err
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"otelagent: {message}\n" + (f"  {hint}\n" if hint else ""))
        sys.stderr.flush()
    sys.exit(status)
