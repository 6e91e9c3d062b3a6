# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings in the environment: `OTELAGENT_NAME`, and OpenTelemetry's own variables.

<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>; a form with `_PROFILES` holds
for profiles alone and comes before the general one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.config.file import Given
from otelagent.config.settings import TYPES, convert
from otelagent.errors import ConfigError, SettingError
from otelagent.export.endpoint import signal_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "OTELAGENT_"
CONFIG_VARIABLE = "OTELAGENT_CONFIG"


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

    Raises:
        SettingError: A value is wrong.
    """
    found: dict[str, Given] = {}
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
