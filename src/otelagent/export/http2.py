# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A connection of HTTP/2 that has one request at a time; frames and headers are h2's work.

gRPC's own library takes 20 MB and five threads for what is one request each some seconds.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

if TYPE_CHECKING:
    from h2.errors import ErrorCodes

READ_BYTES = 64 << 10
MAX_HEADERS = 128
FRAME_HEAD_BYTES, SETTINGS = 9, 4  # RFC 9113, 4.1 and 6.5

Headers = tuple[tuple[str, str], ...]


class NotHttp2(Exception):  # noqa: N818 (it is what it says)
    """The other side speaks something else."""


class Closed(ConnectionError):  # noqa: N818 (likewise)
    """The connection ended before there was an answer."""

    def __init__(self) -> None:
        super().__init__("the connection was closed without an answer")


@dataclass(slots=True)
class Response:
    """What came of a request.

    Attributes:
        headers: Those before and behind the content; of one that is there twice the last counts.
        content: At most as many bytes as were asked for.
        is_cut: There were more.
        reset: Why the other side gave the request up, if it did.
        is_whole: Nothing more comes.
    """

    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    is_cut: bool = False
    reset: ErrorCodes | int | None = None
    is_whole: bool = False


class Http2Connection:
    """One connection. `shut` may be called from any thread, the rest from one.

    h2 reads nothing any more once the other side has said that it goes away (GOAWAY): a request
    that is on its way then is `Closed`, though it may have arrived.

    Attributes:
        is_greeted: The other side has said something that is HTTP/2.

    Args:
        sock: Connected; it is this object's from now on.
        most_bytes: Of a response.
    """

    def __init__(self, sock: socket.socket, most_bytes: int) -> None:
        self._sock = sock
        self._most_bytes = most_bytes
        config = H2Configuration(client_side=True, header_encoding=None)
        self._h2 = H2Connection(config)
        self._h2.initiate_connection()
        self.is_greeted = False
        self._head = b""
        self._is_ending = False

    def is_usable(self) -> bool:
        """Take what came meanwhile; tells whether another request can be sent."""
        try:
            while not self._is_ending and self._is_readable():
                self._sock.settimeout(1.0)
                self._take(None, Response())
            self._flush(time.monotonic() + 1.0)
        except (OSError, NotHttp2):
            return False
        return not self._is_ending

    def _is_readable(self) -> bool:
        pending = getattr(self._sock, "pending", None)  # of TLS
        return bool((pending and pending()) or select.select([self._sock], [], [], 0)[0])

    def request(self, headers: Headers, body: bytes, deadline: float) -> Response:
        """Send a request and take the response.

        Args:
            headers: Pseudo headers first.
            body: What is sent.
            deadline: When to give up (`time.monotonic`).

        Raises:
            TimeoutError: It is over.
            Closed: The connection ended.
            NotHttp2: What came is none.
            OSError: As it says.
        """
        try:
            return self._request(headers, body, deadline)
        except ProtocolError as err:  # h2 refuses to go on
            raise Closed from err

    def _request(self, headers: Headers, body: bytes, deadline: float) -> Response:
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers)
        response, sent = Response(), 0
        while not response.is_whole:
            if sent <= len(body):
                sent = self._put(stream, body, sent)
            self._flush(deadline)
            self._wait_for(deadline)
            self._take(stream, response)
        # Who answers before it has seen all is not sent the rest.
        self._is_ending |= sent <= len(body)
        self._flush(deadline)
        return response

    def _put(self, stream: int, body: bytes, sent: int) -> int:
        """Put as much into frames as the other side takes now; gives how much that is in all."""
        room = self._h2.local_flow_control_window(stream)
        while room and sent < len(body):
            size = min(room, self._h2.max_outbound_frame_size, len(body) - sent)
            self._h2.send_data(stream, body[sent : sent + size])
            sent, room = sent + size, room - size
        if sent == len(body):
            self._h2.end_stream(stream)
            sent += 1
        return sent

    def _flush(self, deadline: float) -> None:
        if data := self._h2.data_to_send():
            self._wait_for(deadline)
            self._sock.sendall(data)

    def _wait_for(self, deadline: float) -> None:
        """Let the next call of the socket take no longer than that."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def _take(self, stream: int | None, response: Response) -> None:
        data = self._sock.recv(READ_BYTES)
        self._greet(data)
        if not data:
            raise Closed
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as err:
            raise Closed from err
        for event in events:
            if isinstance(event, ConnectionTerminated):
                self._is_ending = True
                if stream is not None and not response.is_whole:
                    raise Closed
            elif isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if getattr(event, "stream_id", None) == stream:
                self._add(event, response)

    def _greet(self, data: bytes) -> None:
        """Look whether what comes first is what HTTP/2 begins with: settings."""
        if self.is_greeted:
            return
        self._head += data[:FRAME_HEAD_BYTES]
        self.is_greeted = len(self._head) >= FRAME_HEAD_BYTES and self._head[3] == SETTINGS
        if not self.is_greeted and (
            len(self._head) >= FRAME_HEAD_BYTES or (self._head and not data)
        ):
            raise NotHttp2

    def _add(self, event: Event, response: Response) -> None:
        if isinstance(event, DataReceived):
            room = self._most_bytes - len(response.content)
            response.is_cut |= len(event.data) > room
            response.content += event.data[:room]
        elif isinstance(event, ResponseReceived | TrailersReceived):
            for name, value in event.headers[:MAX_HEADERS]:
                response.headers[_text(name)] = _text(value)
        elif isinstance(event, StreamEnded):
            response.is_whole = True
        elif isinstance(event, StreamReset) and not response.is_whole:
            response.reset, response.is_whole = event.error_code, True

    def shut(self) -> None:
        """End what is going on, as if the other side had gone."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
