# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which value holds: an option before the environment, that before the file, then the default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from otelagent.config.environment import CONFIG_VARIABLE, read_environment
from otelagent.config.file import Given, read_file
from otelagent.config.settings import DEFAULTS, NAMES, TYPES, Settings, convert
from otelagent.errors import ConfigError, SettingError
from otelagent.export.endpoint import Endpoint, parse_address, parse_headers
from otelagent.formats.pairs import parse_pairs
from otelagent.options import OffCpu, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT = "default"
TRACERS = ("python",)
"""Interpreters that are known."""
MAX_CPUS = 8192
"""The most that Linux can be built for (CONFIG_NR_CPUS on x86-64)."""
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
            # These are named after the setting; lines of files, and variables of others, are not.
            is_named = source.startswith(("--", "OTELAGENT_"))
            where = source if is_named else f"{source}: {key}"
            raise kind(f"{where}: {err}", hint=err.hint) from err


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
    variables_of(resolved)
    endpoint_of(resolved)
    options_of(resolved)
    return resolved


def options_of(resolved: Resolved) -> Options:
    """Give what the settings say of the profiler itself.

    Raises:
        ConfigError: A list names what is not there.
    """
    of = resolved.settings
    return Options(
        python="python" in resolved.checked("tracers", lambda: parse_tracers(of.tracers)),
        cpus=resolved.checked("pin-cpu-ids", lambda: parse_cpus(of.pin_cpu_ids)),
        idle=of.send_idle_frames,
        error_frames=of.send_error_frames,
        map_scale=of.map_scale_factor,
        bpf_log_level=of.bpf_log_level,
        cache_directory=Path(of.cache_directory) if of.cache_directory else None,
        off_cpu=waits_of(of),
    )


def waits_of(settings: Settings) -> OffCpu | None:
    """Say which waits are followed; None for none."""
    if not settings.off_cpu_threshold:
        return None
    return OffCpu(settings.off_cpu_threshold, round(settings.off_cpu_min * 1e9))


def parse_tracers(text: str) -> set[str]:
    """Read which interpreters are unwound; native code always is.

    Raises:
        ConfigError: One is not known.
    """
    names = {name.strip() for name in text.split(",")} - {""}
    if not names or names == {"none"}:
        return set()
    if unknown := names - {"all", "native", *TRACERS}:
        hint = f"all, none, or some of: {', '.join(TRACERS)}"
        raise ConfigError(f"there is no tracer {min(unknown)!r}", hint=hint)
    return set(TRACERS) if "all" in names else names


def parse_cpus(text: str) -> tuple[int, ...]:
    """Read a list of CPUs; empty: all of them.

    Raises:
        ConfigError: It is no such list.
    """
    found: set[int] = set()
    for part in filter(None, map(str.strip, text.split(","))):
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(each.isdecimal() and int(each) < MAX_CPUS for each in ends):
            raise ConfigError(f"{part!r} is no CPU and no range of CPUs", hint="such as 0-3,6")
        found.update(range(int(ends[0]), int(ends[1]) + 1))
    if text.strip() and not found:
        raise ConfigError(f"{text!r} has no CPU in it", hint="such as 0-3,6")
    return tuple(sorted(found))


def attributes_of(resolved: Resolved) -> tuple[tuple[str, str], ...]:
    """Give what is sent with every profile.

    Raises:
        ConfigError: It is no list of attributes.
    """
    text = resolved.settings.resource_attributes
    found = resolved.checked("resource-attributes", lambda: parse_pairs(text, "attribute"))
    return tuple(dict(found).items())


def variables_of(resolved: Resolved) -> tuple[str, ...]:
    """Give the environment variables of processes that are sent.

    Raises:
        ConfigError: One cannot be a variable's name.
    """
    names = tuple(filter(None, map(str.strip, resolved.settings.env_vars.split(","))))

    def check() -> None:
        for name in names:
            if "=" in name:
                raise ConfigError(f"{name!r} is no name of a variable", hint="write NAME,NAME")

    resolved.checked("env-vars", check)
    return names


def endpoint_of(resolved: Resolved) -> Endpoint | None:
    """Give the receiver; None where none was named.

    Raises:
        ConfigError: Its address or headers cannot be used.
    """
    of = resolved.settings
    headers = resolved.checked("headers", lambda: parse_headers(of.headers))
    if not of.collection_agent:
        return None
    if of.client_key and not of.client_certificate:
        resolved.checked("client-key", _refuse_key)
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


def _refuse_key() -> None:
    raise ConfigError("a key without its certificate", hint="name it: --client-certificate")
