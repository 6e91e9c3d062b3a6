# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""OTLP over gRPC: unary calls on one connection; imported only where a receiver wants it.

Protocol: doc/PROTOCOL-HTTP2.md and doc/http-grpc-status-mapping.md of gRPC.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import socket
import time
import zlib
from typing import TYPE_CHECKING
from urllib.parse import unquote

from otelagent.errors import ConfigError
from otelagent.export.answer import Answer, Verdict, delivered, words_of
from otelagent.export.endpoint import PROFILES, Endpoint, Signal, make_tls
from otelagent.export.http_client import GZIP_LEVEL, explain
from otelagent.export.status_details import retry_delay_s

try:
    from otelagent.export.http2 import Closed, Http2Connection, NotHttp2, Response
except ImportError as err:
    raise ConfigError(
        "sending by gRPC needs the package h2, which is not installed",
        hint="pip install h2, or send to an http:// or https:// address",
    ) from err

if TYPE_CHECKING:
    from otelagent.export.http2 import Headers

CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
"""By their numbers."""
OF_HTTP = {"400": "INTERNAL", "401": "UNAUTHENTICATED", "403": "PERMISSION_DENIED"}
OF_HTTP |= {"404": "UNIMPLEMENTED"} | dict.fromkeys(("429", "502", "503", "504"), "UNAVAILABLE")
"""What a status of HTTP means where there is none of gRPC."""
OF_RESET = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}
"""What it means that a request was given up (RST_STREAM); all else is INTERNAL."""
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
PREFIX_BYTES = 5
"""Before a message: whether it is packed, and how long it is."""
_DETAILS = "grpc-status-details-bin"


class GrpcClient:
    """Sends requests. `abort` may be called from any thread, the rest from one.

    Raises:
        ConfigError: From the constructor: certificates cannot be used.
    """

    def __init__(self, endpoint: Endpoint, agent: str, signal: Signal = PROFILES) -> None:
        self._endpoint = endpoint
        self._agent = agent
        self._signal = signal
        self._tls = make_tls(endpoint) if endpoint.address.tls else None
        if self._tls:
            self._tls.set_alpn_protocols(["h2"])
        self._connection: Http2Connection | None = None
        self._socket: socket.socket | None = None
        self._is_aborted = False

    def send(self, data: bytes) -> Answer:
        """Send a request and say what became of it; never raises."""
        self._is_aborted = False
        deadline = time.monotonic() + self._endpoint.timeout_s
        if self._endpoint.gzip:
            data = gzip.compress(data, GZIP_LEVEL, mtime=0)
        body = bytes((self._endpoint.gzip,)) + len(data).to_bytes(4, "big") + data
        old = self._connection
        if old and not old.is_usable():
            self.close()
            old = None
        answer = self._try(body, deadline, is_first=not old)
        if answer is None and not self._is_aborted:
            answer = self._try(body, deadline, is_first=True)  # it may close what was idle
        return answer or Answer(Verdict.AGAIN, str(Closed()))

    def _try(self, body: bytes, deadline: float, *, is_first: bool) -> Answer | None:
        """Send it once; None where a connection was closed that had served before."""
        try:
            connection = self._connect(deadline)
            return self._judge(connection.request(self._headers(deadline), body, deadline))
        except NotHttp2:
            self.close()
            hint = "is it a port of HTTP (http:// in its address)?"
            return Answer(Verdict.AGAIN, "it does not speak gRPC", hint=hint)
        except OSError as err:
            was_greeted = self._connection is not None and self._connection.is_greeted
            self.close()
            if isinstance(err, ConnectionError) and not is_first:
                return None
            return self._explain(err, was_greeted=was_greeted)

    def _connect(self, deadline: float) -> Http2Connection:
        if self._connection is None:
            address = self._endpoint.address
            left = max(deadline - time.monotonic(), 0.001)
            sock = socket.create_connection((address.host, address.port), left)
            self._socket = sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
                sock = self._socket = self._tls.wrap_socket(sock, server_hostname=address.host)
            self._connection = Http2Connection(sock, MAX_ANSWER_BYTES + PREFIX_BYTES)
        return self._connection

    def _headers(self, deadline: float) -> Headers:
        address = self._endpoint.address
        host = f"[{address.host}]" if ":" in address.host else address.host
        left_ms = max(round(1000 * (deadline - time.monotonic())), 1)
        return (
            (":method", "POST"),
            (":scheme", "https" if address.tls else "http"),
            (":path", self._signal.method),
            (":authority", f"{host}:{address.port}"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", self._agent),
            ("grpc-timeout", f"{min(left_ms, 99_999_999)}m"),
            ("grpc-encoding", "gzip" if self._endpoint.gzip else "identity"),
            ("grpc-accept-encoding", "identity,gzip"),
            *self._endpoint.headers,
        )

    def _judge(self, response: Response) -> Answer:
        code, said = status_of(response)
        if code == "OK":
            return delivered(message_of(response))
        what = f"{code}: {words_of(said)}".rstrip(": ")
        wait_s = retry_delay_s(_decode(response.headers.get(_DETAILS, "")))
        if code in RETRYABLE or (code == "RESOURCE_EXHAUSTED" and wait_s is not None):
            return Answer(Verdict.AGAIN, what, wait_s or 0.0)
        hint = ""
        if code == "UNIMPLEMENTED":
            hint = f"the receiver does not take {self._signal.name} by gRPC"
        elif code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
            hint = "it wants other credentials: see --headers"
        return Answer(Verdict.REFUSED, what, hint=hint)

    def _explain(self, err: OSError, *, was_greeted: bool) -> Answer:
        """Say in one line what went wrong, and what may help."""
        what, wait_s, rejected, hint = explain(err, self._endpoint)
        if self._endpoint.address.tls:
            hint = hint.partition(", or http://")[0]
        elif isinstance(err, ConnectionError) and not isinstance(err, ConnectionRefusedError):
            hint = "" if was_greeted else "does it want TLS (no --disable-tls)?"
        return Answer(Verdict.AGAIN, what, wait_s, rejected, hint)

    def abort(self) -> None:
        """End what is being sent, as if the receiver had gone."""
        self._is_aborted = True
        sock = self._socket
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        sock, self._socket, self._connection = self._socket, None, None
        if sock is not None:
            sock.close()


def status_of(response: Response) -> tuple[str, str]:
    """Give code and words of what became of a call."""
    headers = response.headers
    number = headers.get("grpc-status", "")
    if number.isdecimal() and len(number) < 4:
        code = CODES[int(number)] if int(number) < len(CODES) else "UNKNOWN"
        if code == "OK" and response.is_cut:
            return "RESOURCE_EXHAUSTED", "its answer is too long"
        return code, unquote(headers.get("grpc-message", ""))
    if response.reset is not None:
        return OF_RESET.get(int(response.reset), "INTERNAL"), "it gave the request up"
    status = headers.get(":status", "")
    if status != "200":
        return OF_HTTP.get(status, "UNKNOWN"), f"HTTP {status}"
    return "UNKNOWN", "it did not say how the call ended"


def message_of(response: Response) -> bytes:
    """Give the message of a response; what cannot be unpacked is given as it is."""
    prefix, message = response.content[:PREFIX_BYTES], response.content[PREFIX_BYTES:]
    message = message[: int.from_bytes(prefix[1:], "big")]
    if not prefix[:1].strip(b"\0"):
        return message
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(message, MAX_ANSWER_BYTES)
    except zlib.error:
        return message


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return b""
