# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which value holds: an option before the environment, that before the file, then the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from otelagent.config.environment import CONFIG_VARIABLE, read_environment
from otelagent.config.file import Given, read_file
from otelagent.config.settings import DEFAULTS, NAMES, TYPES, Settings, convert
from otelagent.errors import ConfigError, SettingError
from otelagent.export.endpoint import Endpoint, parse_address, parse_headers
from otelagent.formats.pairs import parse_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT = "default"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings that hold, and for each where it comes from."""

    settings: Settings
    sources: dict[str, str]

    def checked(self, key: str, check: Callable[[], T]) -> T:
        """Run a check of a setting's value; what it finds names who gave the value.

        Raises:
            ConfigError: From an option.
            SettingError: From a file or the environment.
        """
        try:
            return check()
        except ConfigError as err:
            source = self.sources[key]
            kind = ConfigError if source.startswith("--") else SettingError
            raise kind(f"{source}: {key}: {err}", hint=err.hint) from err


def read_options(options: Mapping[str, str]) -> dict[str, Given]:
    """Convert what options say.

    Raises:
        ConfigError: A value is wrong.
    """
    found = {}
    for key, text in options.items():
        try:
            found[key] = Given(convert(key, text, strict=False), f"--{key}")
        except ConfigError as err:
            raise ConfigError(f"--{key}: {text!r}: {err}", hint=err.hint) from err
    return found


def resolve(options: Mapping[str, str], environ: Mapping[str, str], path: str = "") -> Resolved:
    """Join all sources.

    Args:
        options: The command line's, by key.
        environ: The environment.
        path: The file; empty: the one that OTELAGENT_CONFIG names, if any.

    Raises:
        ConfigError: As it says.
    """
    path = path or environ.get(CONFIG_VARIABLE, "")
    layers = [
        read_options(options),
        read_environment(environ),
        read_file(path) if path else {},
        {key: Given(value, DEFAULT) for key, value in DEFAULTS.items()},
    ]
    joined = {key: next(layer[key] for layer in layers if key in layer) for key in TYPES}
    settings = Settings(**{NAMES[key]: given.value for key, given in joined.items()})
    resolved = Resolved(settings, {key: given.source for key, given in joined.items()})
    attributes_of(resolved)
    endpoint_of(resolved)
    return resolved


def attributes_of(resolved: Resolved) -> tuple[tuple[str, str], ...]:
    """Give what is sent with every profile.

    Raises:
        ConfigError: It is no list of attributes.
    """
    text = resolved.settings.resource_attributes
    found = resolved.checked("resource-attributes", lambda: parse_pairs(text, "attribute"))
    return tuple(dict(found).items())


def endpoint_of(resolved: Resolved) -> Endpoint | None:
    """Give the receiver; None where none was named.

    Raises:
        ConfigError: Its address or headers cannot be used.
    """
    of = resolved.settings
    headers = resolved.checked("headers", lambda: parse_headers(of.headers))
    if not of.collection_agent:
        return None
    address = resolved.checked(
        "collection-agent",
        lambda: parse_address(of.collection_agent, of.protocol, tls=not of.disable_tls),
    )
    return Endpoint(
        address,
        headers,
        of.ca_certificate,
        of.client_certificate,
        of.client_key,
        of.compression == "gzip",
        float(of.timeout),
    )
