# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""OTLP over gRPC: one channel; imported only where a receiver wants it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from otelagent.errors import ConfigError
from otelagent.export.answer import Answer, Verdict, delivered, words_of
from otelagent.export.endpoint import PROFILES, Endpoint, Signal, make_tls, trusted_file
from otelagent.export.status_details import retry_delay_s

if TYPE_CHECKING:
    from types import ModuleType

RETRYABLE = {
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
}
"""Those that OTLP calls retryable; RESOURCE_EXHAUSTED is, where it comes with RetryInfo."""
MAX_ANSWER_BYTES = 64 << 10
_DETAILS = "grpc-status-details-bin"


def _load_grpc() -> ModuleType:
    # Children that are forked to read files never use it; its handlers would only cost.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import grpc  # noqa: PLC0415 (12 MB)
    except ImportError as err:
        raise ConfigError(
            "sending by gRPC needs the package grpcio, which is not installed",
            hint="pip install grpcio, or send to an http:// or https:// address",
        ) from err
    module: ModuleType = grpc
    return module


class GrpcClient:
    """Sends requests. `abort` may be called from any thread, the rest from one.

    Raises:
        ConfigError: From the constructor: certificates cannot be used, or there is no gRPC.
    """

    def __init__(self, endpoint: Endpoint, agent: str, signal: Signal = PROFILES) -> None:
        self._signal = signal
        self._grpc = grpc = _load_grpc()
        self._endpoint = endpoint
        options = [
            ("grpc.primary_user_agent", agent),
            ("grpc.enable_retries", 0),  # the export thread does that
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            ("grpc.max_reconnect_backoff_ms", 5000),
        ]
        address = endpoint.address
        host = f"[{address.host}]" if ":" in address.host else address.host
        target = f"{host}:{address.port}"
        if address.tls:
            self._channel = grpc.secure_channel(target, self._credentials(), options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        # No serializers: requests are bytes already.
        self._export = self._channel.unary_unary(signal.method)
        self._call: Any = None

    def _credentials(self) -> Any:  # noqa: ANN401 (grpc's own)
        make_tls(self._endpoint)  # says what is wrong with a file
        # Left alone, gRPC trusts the authorities that its makers ship.
        own = (self._endpoint.key_file, self._endpoint.cert_file)
        files = (trusted_file(self._endpoint), *own)
        return self._grpc.ssl_channel_credentials(*(_read(name) for name in files))

    def send(self, data: bytes) -> Answer:
        """Send a request and say what became of it; never raises."""
        compression = self._grpc.Compression
        self._call = self._export.future(
            data,
            timeout=self._endpoint.timeout_s,
            metadata=self._endpoint.headers,
            compression=compression.Gzip if self._endpoint.gzip else compression.NoCompression,
        )
        try:
            # result() raises the call itself, whose traceback then holds it, and us with the
            # request: a cycle for each failure, until Python looks for some.
            if self._call.exception() is None:
                return delivered(self._call.result())
        except self._grpc.FutureCancelledError:
            pass
        finally:
            call, self._call = self._call, None
        return self._judge(call)

    def _judge(self, call: Any) -> Answer:  # noqa: ANN401
        code = call.code().name
        said = call.details() or ""
        # "failed to connect to all addresses; last error: UNKNOWN: ipv4:…: what it was"
        what = self._what(code, said.rpartition("last error: ")[2])
        trailer = dict(call.trailing_metadata() or ())
        wait_s = retry_delay_s(trailer.get(_DETAILS, b""))
        if code in RETRYABLE or (code == "RESOURCE_EXHAUSTED" and wait_s is not None):
            if code == "DEADLINE_EXCEEDED":
                what = f"no answer within {self._endpoint.timeout_s:g} s"
            return Answer(Verdict.AGAIN, what, wait_s or 0.0, hint=self._hint(said))
        hint = ""
        if code == "UNIMPLEMENTED":
            hint = f"the receiver does not take {self._signal.name} by gRPC"
        elif code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
            hint = "it wants other credentials: see --headers"
        return Answer(Verdict.REFUSED, what, hint=hint)

    def _what(self, code: str, said: str) -> str:
        """Say in a line what went wrong: the library's words have its own functions in them."""
        if "address lookup failed" in said:
            return f"the host {self._endpoint.address.host} is not known"
        if "CERTIFICATE_VERIFY_FAILED" in said:
            why = said.partition("CERTIFICATE_VERIFY_FAILED: ")[2].partition(": ")[0]
            return f"its certificate is not trusted: {words_of(why) or 'no reason is given'}"
        if "WRONG_VERSION_NUMBER" in said:
            return "TLS failed: WRONG_VERSION_NUMBER"
        if "Failed parsing HTTP/2" in said:
            return "it does not speak gRPC"
        return f"{code}: {words_of(said)}".rstrip(": ")

    def _hint(self, said: str) -> str:
        """Guess from the library's words what may help: it has no other signs."""
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return "name the authority's certificate with --ca-certificate"
        if self._endpoint.address.tls:
            is_plain = "WRONG_VERSION_NUMBER" in said or "handshake" in said
            return "a receiver without TLS needs --disable-tls" if is_plain else ""
        if "Failed parsing HTTP/2" in said:
            return "is it a port of HTTP (http:// in its address)?"
        return "does it want TLS (no --disable-tls)?" if "reset by peer" in said else ""

    def abort(self) -> None:
        """End what is being sent."""
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _read(name: str) -> bytes | None:
    if not name:
        return None
    try:
        with open(name, "rb") as stream:  # noqa: PTH123
            return stream.read()
    except OSError as err:
        raise ConfigError(f"{name}: {err.strerror or err}") from err
