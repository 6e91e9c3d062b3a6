# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where requests go, and how: what a user says, as typed values."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otelagent.errors import ConfigError
from otelagent.formats.pairs import parse_pairs

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Signal:
    """What is sent, and where receivers take it."""

    name: str
    path: str
    service: str

    @property
    def method(self) -> str:
        """Its method of gRPC."""
        return f"/opentelemetry.proto.collector.{self.service}/Export"

    def beside(self, profiles_path: str) -> str:
        """Give its path at a receiver that takes profiles at that one."""
        before = profiles_path.removesuffix(PATH)
        return (before if before != profiles_path else "") + self.path


PATH = "/v1development/profiles"
PROFILES = Signal("profiles", PATH, "profiles.v1development.ProfilesService")
METRICS = Signal("metrics", "/v1/metrics", "metrics.v1.MetricsService")
GRPC, HTTP = "grpc", "http/protobuf"
PORTS = {GRPC: 4317, HTTP: 4318}
AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine
)
"""Files with what a system trusts: a Python or gRPC built elsewhere may not know the place."""
_HOST = re.compile(r"[\w.:%-]+")
"""A name, also an international one, or an address, also with a scope."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SHAPE = "write HOST:PORT (gRPC), http://HOST:PORT or https://HOST:PORT"


@dataclass(frozen=True, slots=True)
class Address:
    """A receiver's address; `path` is of HTTP only."""

    protocol: str
    host: str
    port: int
    tls: bool
    path: str = PATH

    def __str__(self) -> str:
        """Show it as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.protocol == GRPC:
            return f"{'grpcs' if self.tls else 'grpc'}://{host}:{self.port}"
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver, and how it is spoken to.

    Attributes:
        headers: Sent with each request; names in lower case.
        ca_file: Certificates that are trusted, PEM; empty: the system's.
        cert_file: Our own certificate, PEM; empty: none.
        key_file: Its key, PEM.
        timeout_s: How long one request may take.
    """

    address: Address
    headers: tuple[tuple[str, str], ...] = ()
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    gzip: bool = True
    timeout_s: float = 10.0


def parse_address(text: str, protocol: str = "", *, tls: bool = True) -> Address:
    """Take an address apart.

    A plain HOST:PORT is gRPC, a URL is OTLP/HTTP, unless `protocol` says otherwise; a URL's
    scheme says whether there is TLS. `PATH` is added to a URL that has no path.

    Raises:
        ConfigError: It is no address.
    """
    has_scheme = "://" in text
    try:
        parts = urlsplit(text if has_scheme else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as err:
        raise ConfigError(f"{text!r} is not the address of a receiver", hint=_SHAPE) from err
    if (
        not host
        or not _HOST.fullmatch(host)
        or (has_scheme and parts.scheme not in {"http", "https"})
    ):
        raise ConfigError(f"{text!r} is not the address of a receiver", hint=_SHAPE)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{text!r}: a receiver's address has no user, query or fragment",
            hint="credentials go into headers",
        )
    protocol = protocol or (HTTP if has_scheme else GRPC)
    if has_scheme:
        tls = parts.scheme == "https"
    if not has_scheme and parts.path:
        raise ConfigError(f"{text!r} is not the address of a receiver", hint=_SHAPE)
    path = parts.path if parts.path.strip("/") else PATH
    return Address(protocol, host, port or PORTS[protocol], tls, path)


def signal_url(base: str) -> str:
    """Make the URL for profiles of one that is for all signals (OTEL_EXPORTER_OTLP_ENDPOINT)."""
    return base.rstrip("/") + PATH if "://" in base else base


def parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    """Take `name=value,name=value` apart; values may be percent-encoded.

    Raises:
        ConfigError: A header has no name, or one that HTTP does not allow.
    """
    pairs = parse_pairs(text, "header")
    for name, value in pairs:
        if not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            # A value may be a secret: it is not shown.
            raise ConfigError(f"header {name!r} is none that HTTP allows")
    return tuple((name.lower(), value) for name, value in pairs)


def trusted_file(endpoint: Endpoint) -> str:
    """Find the certificates that are trusted: those given, else the system's; may be empty."""
    given = endpoint.ca_file or os.environ.get("SSL_CERT_FILE", "")
    return given or next(filter(os.path.exists, AUTHORITIES), "")


def make_tls(endpoint: Endpoint) -> ssl.SSLContext:
    """Prepare TLS, so that certificates that cannot be read are told at start.

    Raises:
        ConfigError: A file cannot be read, or holds no certificate or key.
    """
    import ssl  # noqa: PLC0415 (3 MB, and most receivers are beside us)

    at = trusted_file(endpoint)
    try:
        context = ssl.create_default_context(cafile=at or None)
        if endpoint.cert_file:
            at = endpoint.key_file or endpoint.cert_file
            open(at, "rb").close()  # noqa: PTH123 (the library does not say which of both)
            at = endpoint.cert_file
            context.load_cert_chain(endpoint.cert_file, endpoint.key_file or None, password="")
    except (OSError, ValueError) as err:  # SSLError is an OSError
        # `strerror` of an SSLError says where in Python's source it was raised.
        reason = getattr(err, "reason", "") or getattr(err, "strerror", "") or str(err)
        if "PEM lib" in reason:
            reason = "it holds no certificate, or no key is in it or named"
        raise ConfigError(
            f"certificate {at} cannot be used: {reason}",
            hint="it must be a readable PEM file (and the key must fit)",
        ) from err
    return context
