# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Receivers that misbehave for as long as they are told to, by HTTP and by gRPC, and then are well.

Each has `port`, `taken` (the requests that it answered well, decoded), `heal` and `close`.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from contextlib import suppress

import grpc

from integration.runs import free_port
from tests.export.receivers import HttpReceiver, babble, hang_up
from tests.export.test_grpc_client import GrpcReceiver, retry_info

STATUS = grpc.StatusCode
WELL = (200, {}, b"")
FOR_EVER = 1_000_000


class Always(list):
    """Answers that do not come to an end, until they are cleared; a number of each is drawn."""

    def __init__(self, *choices, seed=1):
        super().__init__([None])
        self.choices, self.rng = choices, random.Random(seed)

    def pop(self, _index=0):
        return self.rng.choice(self.choices)


class Http:
    """OTLP/HTTP: answers as `choices` say."""

    def __init__(self, *choices):
        self.inner = HttpReceiver()
        self.inner.answers = Always(*(self._of(each) for each in choices))
        self.port = self.inner.port
        self.taken = self.inner.requests

    def _of(self, choice):
        return self.inner.hang if choice == "hang" else choice

    def heal(self):
        self.inner.answers = []
        self.inner.released.set()

    def close(self):
        self.inner.close()


class Grpc:
    """OTLP/gRPC: answers as `choices` say, which are given the receiver."""

    def __init__(self, *choices):
        self.inner = GrpcReceiver()
        self.inner.answers = Always(*(choice(self.inner) for choice in choices))
        self.port = self.inner.port
        self.taken = self.inner.requests

    def heal(self):
        self.inner.answers = []
        self.inner.released.set()

    def close(self):
        self.inner.released.set()
        self.inner.server.stop(None).wait()


class Coming:
    """One that is killed and comes back, again and again; there at first."""

    def __init__(self, make, seconds):
        self.make, self.seconds = make, seconds
        self.port, self.taken = free_port(), []
        self.healed = threading.Event()
        self.inner = make(self.port)
        self.thread = threading.Thread(target=self._turn, daemon=True)
        self.thread.start()

    def _turn(self):
        while not self.healed.wait(self.seconds):
            self._kill()
            self.healed.wait(self.seconds)
            self.inner = self.make(self.port)

    def _kill(self):
        if isinstance(self.inner, HttpReceiver):
            self.inner.close()
        else:
            self.inner.server.stop(None).wait()
        self.taken += self.inner.requests

    def heal(self):
        self.healed.set()
        self.thread.join()

    def close(self):
        self._kill()


class Raw:
    """Whatever `speak` does with a connection; once it is well, `grpc` takes its port."""

    def __init__(self, speak):
        self.speak = speak
        self.listener = socket.create_server(("127.0.0.1", 0), reuse_port=True)
        self.port, self.taken, self.inner = self.listener.getsockname()[1], [], None
        self.connections = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                self.connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError, ValueError, struct.error):
            self.speak(connection)
        connection.close()
        self.connections.discard(connection)

    def heal(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for each in list(self.connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.inner = GrpcReceiver(self.port)
        self.taken = self.inner.requests

    def close(self):
        self.inner.server.stop(None).wait()


def drip_slowly(handler):
    """Answer a byte a second."""
    with suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 1000:
            handler.wfile.write(bytes((byte,)))
            handler.wfile.flush()
            time.sleep(1)
    handler.close_connection = True


def refuse(code, details=b""):
    return lambda receiver: receiver.refuse(code, details)


def exhausted(seconds):
    return refuse(STATUS.RESOURCE_EXHAUSTED, retry_info(seconds))


def hang(receiver):
    return receiver.hang


def answer_garbage(_receiver):
    return lambda _context: b"\xff\xff this is no message \x00\x01"


def hold(connection):
    """Take all, and say nothing."""
    while connection.recv(1 << 16):
        pass


def speak_another_language(connection):
    connection.recv(1 << 16)
    connection.sendall(b"220 mail.example.org ESMTP\r\n" * 3)


# HTTP/2 (RFC 9113): types of frames, and flags.
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK = END_STREAM = 1
END_HEADERS = 4
# HPACK (RFC 7541): `:status: 200` is entry 8, `content-type` entry 31 of the static table.
HEAD = b"\x88\x0f\x10\x10application/grpc"
EMPTY_MESSAGE = bytes(5)


def frame(kind, flags, stream, data=b""):
    return (
        struct.pack(">I", len(data))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + data
    )


def leave_trailers_out(connection):
    """Speak gRPC, but for the trailers: nobody says how a call ended."""
    stream = connection.makefile("rb")
    stream.read(24)  # the preface
    connection.sendall(frame(SETTINGS, 0, 0))
    connection.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
    while head := stream.read(9):
        size, kind, flags, number = int.from_bytes(head[:3]), head[3], head[4], head[5:9]
        data = stream.read(size)
        if kind in (SETTINGS, PING) and not flags & ACK:
            connection.sendall(frame(kind, ACK, 0, data if kind == PING else b""))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            call = int.from_bytes(number)
            connection.sendall(frame(HEADERS, END_HEADERS, call, HEAD))
            connection.sendall(frame(DATA, END_STREAM, call, EMPTY_MESSAGE))


HTML = (200, {"content-type": "text/html"}, b"<html>Welcome to nginx</html>")
BUSY = (429, {"retry-after": "2"}, b"slow down")
BROKEN = (500, {"content-type": "application/json"}, b'{"error": "boom"}')
AWAY = (503, {"retry-after": "1"}, b"")
MIXED = (WELL, WELL, BUSY, AWAY, BROKEN, babble, hang_up, HTML)
MIXED_GRPC = (
    answer_garbage,
    exhausted(1),
    refuse(STATUS.UNAVAILABLE),
    refuse(STATUS.INTERNAL),
    lambda receiver: lambda _context: b"",
)
