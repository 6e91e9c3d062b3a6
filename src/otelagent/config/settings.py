# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""All settings of the agent: names, types, bounds, defaults and help, each once.

An option `--name`, the variable `OTELAGENT_NAME` and the key `name` of the file are the
same setting; the command line and the file's checks are made from this one class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from otelagent import options
from otelagent.errors import ConfigError
from otelagent.formats.durations import parse_duration
from otelagent.formats.quantities import parse_bytes, parse_share

if TYPE_CHECKING:
    from collections.abc import Mapping


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Duration(float):
    """Seconds, written as `5s`, `2m30s` or `200ms`."""


class Share(float):
    """A part of a whole, 0 to 1, written as `1%` or `0.01`."""


class Bytes(int):
    """A number of bytes, written as `4096`, `64MiB` or `1G`."""


def _text(description: str) -> Any:  # noqa: ANN401 (what Annotated takes)
    return Meta(description=description)


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True
):
    """What the agent does. A field's description is the help text of its option."""

    collection_agent: Annotated[
        str, _text("Send to this receiver: HOST:PORT (gRPC) or http(s)://HOST:PORT (HTTP).")
    ] = ""
    protocol: Annotated[
        Literal["", "grpc", "http/protobuf"],
        _text("grpc or http/protobuf, where the address does not say it."),
    ] = ""
    disable_tls: Annotated[bool, _text("Send to HOST:PORT without TLS.")] = False
    ca_certificate: Annotated[
        str, _text("File of certificates that are trusted, in place of the system's.")
    ] = ""
    client_certificate: Annotated[str, _text("File of our own certificate (PEM; mTLS).")] = ""
    client_key: Annotated[str, _text("File of its key (PEM).")] = ""
    headers: Annotated[str, _text("Sent with each request: NAME=VALUE,NAME=VALUE.")] = ""
    compression: Annotated[Literal["gzip", "none"], _text("gzip or none.")] = "gzip"
    timeout: Annotated[Duration, _text("How long one request may take.")] = Duration(10)
    queue_bytes: Annotated[
        Bytes, _text("What may wait in memory to be sent; the oldest goes first.")
    ] = Bytes(16 << 20)
    shutdown_timeout: Annotated[
        Duration, _text("How long the last requests may take at the end.")
    ] = Duration(5)
    spool: Annotated[
        str, _text("Directory where requests wait instead; they survive a restart.")
    ] = ""
    spool_bytes: Annotated[Bytes, _text("The most that the spool takes.")] = Bytes(512 << 20)
    store: Annotated[
        str,
        _text("Directory where profiles are kept. [/var/lib/otelagent if there is no receiver]"),
    ] = ""
    store_bytes: Annotated[
        Bytes, _text("The most that the store takes; the oldest profiles go first.")
    ] = Bytes(1 << 30)
    store_age: Annotated[Duration, _text("How long a profile is kept.")] = Duration(7 * 86400)
    max_cpu: Annotated[
        Share,
        _text("Sample less often where the agent takes more of the machine, as 1%; 0: no limit."),
    ] = Share(0)
    metrics_listen: Annotated[
        str,
        _text("Answer /metrics, /healthz, /readyz here: 127.0.0.1:PORT, or PORT alone."),
    ] = ""
    send_metrics: Annotated[
        bool, _text("Send our own metrics by OTLP to the receiver of the profiles, too.")
    ] = False
    monitor_interval: Annotated[Duration, _text("How often our own metrics are sent.")] = Duration(
        5
    )
    samples_per_second: Annotated[
        int, Meta(ge=1, le=options.MAX_HZ, description=options.FREQUENCY_HELP)
    ] = 20
    reporter_interval: Annotated[Duration, _text("How often what was sampled is sent.")] = Duration(
        5
    )
    reporter_jitter: Annotated[
        float, Meta(ge=0, le=1, description="Part of the interval that is left to chance.")
    ] = 0.2
    off_cpu_threshold: Annotated[
        float,
        Meta(ge=0, le=1, description="Follow this part of the waits of threads; 0: none."),
    ] = 0.0
    off_cpu_min: Annotated[Duration, _text("Leave shorter waits out.")] = Duration(0.001)
    probabilistic_threshold: Annotated[
        int,
        Meta(ge=1, le=100, description="Sample in so many of 100 intervals; 100: always."),
    ] = 100
    probabilistic_interval: Annotated[
        Duration, _text("How often it is drawn by lot whether to sample.")
    ] = Duration(60)
    timestamps: Annotated[bool, _text("Send the time of each sample; false: less to send.")] = True
    tracers: Annotated[
        str, _text("Interpreters that are unwound: all, none or a list (python).")
    ] = "all"
    max_frames: Annotated[
        int, Meta(ge=1, le=options.MAX_FRAMES, description=options.FRAMES_HELP)
    ] = options.DEFAULT_FRAMES
    pin_cpu_ids: Annotated[str, _text("Sample these CPUs only: 0-3,6.")] = ""
    send_idle_frames: Annotated[bool, _text("Sample CPUs that have nothing to do, too.")] = False
    send_error_frames: Annotated[
        bool, _text("End a stack that was cut short with a frame that says why.")
    ] = False
    map_scale_factor: Annotated[
        int, Meta(ge=0, le=8, description="Each 1 doubles the room in BPF maps.")
    ] = 0
    cache_directory: Annotated[
        str, _text("Where unwind rows and line tables are kept. [/var/cache/otelagent for root]")
    ] = ""
    bpf_log_level: Annotated[
        int, Meta(ge=0, le=2, description="Show what the verifier says; 1: a summary, 2: all.")
    ] = 0
    no_symbols: Annotated[bool, _text(options.NO_SYMBOLS_HELP)] = False
    btf_path: Annotated[str, _text(options.BTF_HELP)] = ""
    no_kernel_version_check: Annotated[bool, _text(options.NO_CHECK_HELP)] = False
    env_vars: Annotated[
        str, _text("Environment variables of processes that are sent, too: NAME,NAME.")
    ] = ""
    service_name: Annotated[str, _text("service.name of processes that do not say their own.")] = ""
    resource_attributes: Annotated[str, _text("Sent with every profile: KEY=VALUE,KEY=VALUE.")] = ""


TYPES: dict[str, Any] = {
    field.encode_name: field.type for field in msgspec.structs.fields(Settings)
}
NAMES = {field.encode_name: field.name for field in msgspec.structs.fields(Settings)}
DEFAULTS: dict[str, Any] = {
    field.encode_name: field.default for field in msgspec.structs.fields(Settings)
}


def kind_of(key: str) -> type:
    """Give the plain type of a setting; str for one that has a list of values."""
    kind = TYPES[key].__origin__
    return kind if isinstance(kind, type) else str


def help_of(key: str) -> str:
    """Give the help text of a setting."""
    return str(TYPES[key].__metadata__[0].description)


def bounds_of(key: str) -> str:
    """Say within which bounds a number must be; empty where it has none."""
    meta = TYPES[key].__metadata__[0]
    return "" if meta.le is None else f"{meta.ge:g} to {meta.le:g}"


def convert(key: str, value: object, *, strict: bool) -> Any:  # noqa: ANN401 (of any type)
    """Turn a value into the type of a setting.

    Args:
        key: The setting.
        value: What was given.
        strict: A number must not be written as text (in a file).

    Raises:
        ConfigError: It is not of that type, or not within its bounds; says what is expected.
    """
    if kind_of(key) is str and not strict and not isinstance(value, str):
        value = str(value)
    if key != "headers" and isinstance(value, str) and _CONTROL.search(value):
        # Headers may be secrets, which are not shown; what reads them looks for itself.
        raise ConfigError("expected text without control characters")
    try:
        return msgspec.convert(value, TYPES[key], strict=strict, dec_hook=_decode)
    except msgspec.ValidationError as err:
        if (choice := TYPES[key].__origin__) is not kind_of(key):
            wanted = ", ".join(filter(None, choice.__args__))
            raise ConfigError(f"expected one of {wanted}") from err
        what = str(err).partition(" - at ")[0]
        raise ConfigError(what[:1].lower() + what[1:]) from err


_WORDS: dict[type, str] = {Duration: "duration", Share: "part of a whole", Bytes: "size"}


def _decode(kind: type, value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"expected a {_WORDS[kind]}, got {value!r}")
    if kind is Share:
        return Share(parse_share(str(value)))
    if kind is Duration:
        return Duration(parse_duration(str(value)))
    return Bytes(parse_bytes(str(value)))


def show(value: object) -> str:
    """Write a value as it may stand in a file or an option."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Duration):
        return _show_in(value, _TIMES)
    if isinstance(value, Share):
        return f"{100 * value:g}%"
    if isinstance(value, Bytes):
        return _show_in(value, _SIZES)
    return str(value)


_TIMES = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
_SIZES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "": 1}


def _show_in(value: float, units: Mapping[str, float]) -> str:
    """Write a number in the largest unit of which it is a multiple."""
    for unit, size in units.items():
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value / size:g}{unit}"
