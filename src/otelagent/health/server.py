# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`/metrics`, `/healthz` and `/readyz` over HTTP/1.0: one thread, one request a connection.

The standard library's server would take 7 MB and 40 ms to import. Whoever connects and says
nothing is let go after a moment: then others wait no longer than that.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from otelagent import log
from otelagent.errors import ConfigError, OutputError
from otelagent.health.prometheus import CONTENT_TYPE, write_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.metrics import Reading

logger = logging.getLogger(__name__)
PATIENCE_SECONDS = 2.0
MAX_REQUEST_BYTES = 8192
PLAIN = "text/plain; charset=utf-8"
LOOPBACK = "127.0.0.1"
_SHAPE = "write 127.0.0.1:PORT, [::1]:PORT, or PORT alone for this machine only"
Reply = tuple[str, str, str]
"""Status line, type, and text."""


def parse_listen(text: str) -> tuple[str, int]:
    """Take an address to listen on apart; without a host it is the loopback.

    Raises:
        ConfigError: It is none.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise ConfigError(f"{text!r} is no address to listen on", hint=_SHAPE)
    return host, int(port)


class HealthServer:
    """Answers from `start` to `close`; its port is bound by the constructor.

    Raises:
        OutputError: The address cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._listener = socket.create_server(found[4][:2], family=found[0], backlog=16)
        except (OSError, OverflowError) as err:
            what = f"cannot listen on {host}:{port}: {getattr(err, 'strerror', None) or err}"
            raise OutputError(what, hint="see --metrics-listen") from err
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)

    def start(
        self,
        readings: Callable[[], list[Reading]],
        illness: Callable[[], str],
        is_ready: Callable[[], bool],
    ) -> None:
        """Begin to answer.

        Args:
            readings: Gives all metrics.
            illness: Tells what is wrong with the agent; empty if it is well.
            is_ready: Tells whether it samples.
        """
        self._readings, self._illness, self._is_ready = readings, illness, is_ready
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # it was closed
            try:
                with connection, contextlib.suppress(OSError):
                    self._answer(connection)
            except Exception as err:  # noqa: BLE001 (a bug in one reading never ends the thread)
                log.once(logger, type(err), "a question was not answered", error=repr(err))

    def _answer(self, connection: socket.socket) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = connection.recv(MAX_REQUEST_BYTES)
            head += piece
            if not piece or len(head) > MAX_REQUEST_BYTES or time.monotonic() > deadline:
                return
        method, path, *_ = [*head.split(b"\n", 1)[0].decode("latin-1").split(), "", ""]
        status, kind, text = self._reply(method, path.partition("?")[0])
        body = text.encode()
        lines = (
            f"HTTP/1.0 {status}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        connection.settimeout(PATIENCE_SECONDS)
        answer = "\r\n".join(lines).encode() + b"\r\n\r\n"
        connection.sendall(answer if method == "HEAD" else answer + body)

    def _reply(self, method: str, path: str) -> Reply:
        if method not in {"GET", "HEAD"}:
            return "405 Method Not Allowed", PLAIN, "GET only\n"
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE, write_text(self._readings())
        if path == "/healthz":
            return _judge(self._illness())
        if path == "/readyz":
            return _judge(self._illness() or ("" if self._is_ready() else "not sampling"))
        return "404 Not Found", PLAIN, "/metrics, /healthz, /readyz\n"

    def close(self) -> None:
        """Stop answering."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(2 * PATIENCE_SECONDS)


def _judge(trouble: str) -> Reply:
    if trouble:
        return "503 Service Unavailable", PLAIN, trouble + "\n"
    return "200 OK", PLAIN, "ok\n"
