# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings in the environment: `OTELAGENT_NAME`, and OpenTelemetry's own variables.

<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>; a form with `_PROFILES` holds
for profiles alone and comes before the general one.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from otelagent import log
from otelagent.config.file import Given
from otelagent.config.settings import TYPES, convert
from otelagent.errors import ConfigError, SettingError
from otelagent.export.endpoint import signal_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)
PREFIX = "OTELAGENT_"
CONFIG_VARIABLE = "OTELAGENT_CONFIG"
_NO_SETTINGS = {CONFIG_VARIABLE, "OTELAGENT_DEBUG"}
# Kubernetes sets these for each service; one may well be called otelagent.
_OF_A_SERVICE = re.compile(
    r"OTELAGENT_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)


def _milliseconds(text: str) -> str:
    return f"{text}ms"


def _same(text: str) -> str:
    return text


_OTLP: dict[str, tuple[str, Callable[[str], str]]] = {
    "ENDPOINT": ("collection-agent", signal_url),
    "PROTOCOL": ("protocol", _same),
    "INSECURE": ("disable-tls", str.lower),
    "HEADERS": ("headers", _same),
    "CERTIFICATE": ("ca-certificate", _same),
    "CLIENT_CERTIFICATE": ("client-certificate", _same),
    "CLIENT_KEY": ("client-key", _same),
    "COMPRESSION": ("compression", _same),
    "TIMEOUT": ("timeout", _milliseconds),
}
_OTEL = {"OTEL_SERVICE_NAME": "service-name", "OTEL_RESOURCE_ATTRIBUTES": "resource-attributes"}


def variable_of(key: str) -> str:
    """Name the variable of a setting."""
    return PREFIX + key.upper().replace("-", "_")


def read_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """Read all settings that the environment has; an empty variable says nothing.

    Variables that look like ours and are none are warned of, once. They are no errors, as in a
    file: who sets a variable cannot always choose who sees it.

    Raises:
        SettingError: A value is wrong.
    """
    found: dict[str, Given] = {}
    for name, hint in strangers(environ):
        log.once(logger, name, f"{name}: there is no such setting", hint=hint)
    for key in TYPES:
        _take(found, environ, variable_of(key), key, _same)
    for name, key in _OTEL.items():
        _take(found, environ, name, key, _same)
    for name, (key, change) in _OTLP.items():
        # The form for profiles has the whole URL.
        own = _same if name == "ENDPOINT" else change
        _take(found, environ, f"OTEL_EXPORTER_OTLP_PROFILES_{name}", key, own)
        _take(found, environ, f"OTEL_EXPORTER_OTLP_{name}", key, change)
    return found


def strangers(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give variables that are called like settings and are none, each with what may be meant."""
    import difflib  # noqa: PLC0415 (seldom needed)

    known = {variable_of(key) for key in TYPES}
    ours = {name for name, text in environ.items() if name.startswith(PREFIX) and text.strip()}
    for name in sorted(ours - known - _NO_SETTINGS):
        if _OF_A_SERVICE.fullmatch(name):
            continue
        # Without the part that all have: it makes anything look near.
        near = difflib.get_close_matches(name[len(PREFIX) :].lower().replace("_", "-"), TYPES, 1)
        hint = (
            f"did you mean {variable_of(near[0])}?" if near else "otelagent config show lists them"
        )
        shown = name if name.isascii() and name.isidentifier() else repr(name)
        yield shown, hint


def _take(
    found: dict[str, Given],
    environ: Mapping[str, str],
    name: str,
    key: str,
    change: Callable[[str], str],
) -> None:
    text = environ.get(name, "").strip()
    if not text or key in found:
        return
    try:
        found[key] = Given(convert(key, change(text), strict=False), name)
    except ConfigError as err:
        raise SettingError(f"{name}: {text!r}: {err}", hint=err.hint) from err
