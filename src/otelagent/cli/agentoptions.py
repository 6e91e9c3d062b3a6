# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The options of `agent`, made from the table of settings, with one dash or two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperOption

if TYPE_CHECKING:
    from collections.abc import Iterable

_GIVEN = "otelagent.settings"
_METAVARS = {
    "Duration": "TIME",
    "Bytes": "SIZE",
    "Share": "SHARE",
    "int": "N",
    "float": "PART",
    "bool": "[=BOOL]",
}
_TEXTS = {
    "collection-agent": "ADDRESS",
    "env-vars": "LIST",
    "metrics-listen": "ADDRESS",
    "tracers": "LIST",
    "pin-cpu-ids": "LIST",
    "cache-directory": "DIR",
    "headers": "LIST",
    "resource-attributes": "LIST",
    "spool": "DIR",
    "store": "DIR",
    "ca-certificate": "FILE",
    "client-certificate": "FILE",
    "client-key": "FILE",
    "btf-path": "FILE",
}
_OTHERS = {"config", "pid", "cgroup", "duration", "verbose", "quiet", "help"}
_OTHERS |= {"version", "copyright"}
_SHORT = {"tracers": "-t"}
"""Long names of options that are of the command line alone."""


def given(context: Any) -> dict[str, str]:  # noqa: ANN401 (typer's context)
    """Give the settings that the command line had, by key."""
    found: dict[str, str] = context.meta.get(_GIVEN, {})
    return found


def spell_out(arguments: Iterable[str]) -> list[str]:
    """Write options as a parser of long options wants them.

    `-collection-agent=x` is `--collection-agent=x`, and a switch alone says `=true`.
    """
    from otelagent.config.settings import TYPES, kind_of  # noqa: PLC0415 (not for other commands)

    found: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*found, argument, *rest]
        name, equals, value = argument.lstrip("-").partition("=")
        name = "tracers" if name == "t" and equals else name
        is_ours = argument.startswith("-") and len(name) > 1 and name in TYPES.keys() | _OTHERS
        if not is_ours:
            found.append(argument)
        elif name in TYPES and kind_of(name) is bool:
            found.append(f"--{name}={value if equals else 'true'}")
        else:
            found.append(f"--{name}{equals}{value}")
    return found


def _keep(context: Any, parameter: Any, value: str | None) -> None:  # noqa: ANN401
    if value is not None:
        key = parameter.name.replace("_", "-")
        context.meta.setdefault(_GIVEN, {})[key] = value


def _option(key: str) -> TyperOption:
    from otelagent.config.settings import (  # noqa: PLC0415
        DEFAULTS,
        bounds_of,
        help_of,
        kind_of,
        show,
    )

    default = show(DEFAULTS[key])
    told = [f"default: {default}"] if default and DEFAULTS[key] is not False else []
    told += filter(None, [bounds_of(key)])
    shown = f" [{'; '.join(told)}]" if told else ""
    return TyperOption(
        param_decls=[f"--{key}", *filter(None, [_SHORT.get(key)])],
        type=str,
        default=None,
        callback=_keep,
        expose_value=False,
        metavar=_TEXTS.get(key) or _METAVARS.get(kind_of(key).__name__, "TEXT"),
        help=help_of(key) + shown,
        show_default=False,
    )


class SettingsCommand(TyperCommand):
    """A command that takes every setting as an option; none is made before it is used."""

    _settings: list[Any] | None = None

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 (typer's context)
        """List all options, help last."""
        from otelagent.config.settings import TYPES  # noqa: PLC0415

        if self._settings is None:
            self._settings = [_option(key) for key in TYPES]
        *own, last = super().get_params(ctx)
        return [*own, *self._settings, last]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Take the command line apart."""
        return super().parse_args(ctx, spell_out(args))
