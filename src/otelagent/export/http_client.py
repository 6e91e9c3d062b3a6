# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""OTLP over HTTP: one connection, kept open, on the standard library."""

from __future__ import annotations

import email.utils
import gzip
import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING

from otelagent.export.answer import Answer, Verdict, delivered, words_of
from otelagent.export.endpoint import Endpoint, make_tls

if TYPE_CHECKING:
    from collections.abc import Callable

RETRYABLE = {429, 502, 503, 504}
"""Those that OTLP calls retryable; every other status but 2xx is final."""
MAX_ANSWER_BYTES = 64 << 10
GZIP_LEVEL = 6


class HttpClient:
    """Sends requests. `abort` may be called from any thread, the rest from one.

    Raises:
        ConfigError: From the constructor: certificates cannot be used.
    """

    def __init__(
        self, endpoint: Endpoint, agent: str, wall: Callable[[], float] = time.time
    ) -> None:
        self._endpoint = endpoint
        self._wall = wall
        self._tls = make_tls(endpoint) if endpoint.address.tls else None
        self._headers = {
            **dict(endpoint.headers),
            "content-type": "application/x-protobuf",
            "user-agent": agent,
        }
        if endpoint.gzip:
            self._headers["content-encoding"] = "gzip"
        self._connection: http.client.HTTPConnection | None = None

    def send(self, data: bytes) -> Answer:
        """Send a request and say what became of it; never raises."""
        body = gzip.compress(data, GZIP_LEVEL, mtime=0) if self._endpoint.gzip else data
        was_open = self._connection is not None
        answer = self._try(body)
        if answer is None and was_open:
            answer = self._try(body)  # a receiver may close what was idle
        return answer or Answer(Verdict.AGAIN, "the connection was closed without an answer")

    def _try(self, body: bytes) -> Answer | None:
        """Send it once; None where the connection was closed before an answer began."""
        # A timeout of the socket is for each read: a receiver that sends a byte now and then
        # would keep us for ever.
        is_late = threading.Event()
        timer = threading.Timer(self._endpoint.timeout_s, self._end_late, (is_late,))
        timer.daemon = True
        timer.start()
        try:
            connection = self._connect()
            connection.request("POST", self._endpoint.address.path, body, self._headers)
            response = connection.getresponse()
            content = response.read(MAX_ANSWER_BYTES)
            if is_late.is_set():
                raise TimeoutError  # a head that was cut may say 200 all the same
            if response.will_close or not response.isclosed():
                self.close()
            return self._judge(response, content)
        except (http.client.HTTPException, OSError, ValueError) as err:
            self.close()
            if is_late.is_set():
                return Answer(Verdict.AGAIN, f"no answer within {self._endpoint.timeout_s:g} s")
            if isinstance(err, http.client.RemoteDisconnected | BrokenPipeError):
                return None
            return Answer(Verdict.AGAIN, *_explain(err, self._endpoint))
        finally:
            timer.cancel()

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is not None:
            return self._connection
        address, timeout = self._endpoint.address, self._endpoint.timeout_s
        made: http.client.HTTPConnection
        if self._tls is None:
            made = http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        else:
            made = http.client.HTTPSConnection(
                address.host, address.port, timeout=timeout, context=self._tls
            )
        made.connect()
        self._connection = made
        return made

    def _judge(self, response: http.client.HTTPResponse, content: bytes) -> Answer:
        if 200 <= response.status < 300:
            return delivered(content)
        what = f"HTTP {response.status} {words_of(response.reason, 60)}".rstrip()
        if response.status in RETRYABLE:
            wait_s = parse_retry_after(response.getheader("retry-after", ""), self._wall())
            return Answer(Verdict.AGAIN, what, wait_s)
        hint = ""
        if response.status == 404:
            path = self._endpoint.address.path
            hint = f"the receiver has no {path}: does it take what is sent there?"
        elif response.status in {401, 403}:
            hint = "it wants other credentials: see --headers"
        return Answer(Verdict.REFUSED, what, hint=hint)

    def abort(self) -> None:
        """End what is being sent, as if the receiver had gone."""
        connection = self._connection
        sock = connection.sock if connection else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already

    def _end_late(self, is_late: threading.Event) -> None:
        is_late.set()
        self.abort()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def parse_retry_after(text: str, now: float) -> float:
    """Read `Retry-After`, seconds or a date, as seconds from now; 0 if it says nothing."""
    if text.strip().isdecimal():
        return min(float(text), 1e9)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    return max(at.timestamp() - now, 0.0)


def _explain(err: Exception, endpoint: Endpoint) -> tuple[str, float, int, str]:
    """Say in one line what went wrong, and what may help: the first fields of an `Answer`."""
    hint = ""
    name = type(err).__name__
    what = words_of(getattr(err, "strerror", None) or str(err) or name)
    if isinstance(err, socket.gaierror):
        what = f"the host {endpoint.address.host} is not known: {what}"
    elif isinstance(err, TimeoutError):
        what = f"no answer within {endpoint.timeout_s:g} s"
    elif name == "SSLCertVerificationError":
        what = f"its certificate is not trusted: {getattr(err, 'verify_message', what)}"
        hint = "name the authority's certificate with --ca-certificate"
    elif name.startswith("SSL"):
        what = f"TLS failed: {words_of(getattr(err, 'reason', None) or what)}"
        if name == "SSLEOFError":
            what = "TLS failed: the receiver closed the connection"
        hint = "a receiver without TLS needs --disable-tls, or http:// in its address"
        if "CERTIFICATE_REQUIRED" in what or (name == "SSLEOFError" and not endpoint.cert_file):
            hint = "it may want a certificate of ours: --client-certificate and --client-key"
    elif isinstance(err, ConnectionResetError) and not endpoint.address.tls:
        hint = "does it want TLS (https://)?"
    elif isinstance(err, http.client.HTTPException):
        what = f"it does not speak HTTP: {name} {what}"
        if not endpoint.address.tls:
            hint = "is it a port of gRPC, or does it want TLS (https://)?"
    return what, 0.0, 0, hint
