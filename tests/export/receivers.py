# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Receivers on the loopback that behave and misbehave, and requests to send them."""

import gzip
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

from otelagent.export.records import Record
from otelagent.export.splitting import encode_requests
from otelagent.model import Frame, FrameType, Function, Line, Pid, Process, Thread, Trace
from otelagent.profile.model import Profile
from tests.export.conformance import check

DEADLINE_SECONDS = 20


def profile(samples=3, pid=7, name="work"):
    """A profile of one stack in one thread."""
    made = Profile(period_ns=50_000_000, start_unix_ns=10**18, duration_ns=5 * 10**9)
    trace = Trace((Frame(FrameType.PYTHON, lines=(Line(Function(name), 3),)),))
    times = [10**18 + at for at in range(samples)]
    made.add(trace, Process(Pid(pid), "app"), Thread(pid, "main"), samples, 0, times)
    return made


def record(samples=3, pid=7, name="work") -> Record:
    made = profile(samples, pid, name)
    [only] = encode_requests(made, made)
    return only


def resources_of(request) -> list[dict[str, str | int]]:
    """The attributes of each resource, texts looked up in the dictionary."""
    table = request.dictionary.string_table
    return [
        {
            entry.key or table[entry.key_strindex]: entry.value.int_value
            or entry.value.string_value
            or table[entry.value.string_value_strindex]
            for entry in each.resource.attributes
        }
        for each in request.resource_profiles
    ]


def pids_of(request) -> list[int]:
    return [each["process.pid"] for each in resources_of(request) if "process.pid" in each]


class HttpReceiver:
    """Takes profiles as the protocol says, unless `answers` has something else to do first.

    An answer is (status, headers, body) or a function that is given the handler.
    """

    def __init__(self, *answers, port=0, context=None):
        self.answers = list(answers)
        self.requests, self.headers, self.faults, self.metrics = [], [], [], []
        self.released = threading.Event()
        self._connections = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer._take(self)

            def log_message(self, *arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                pass  # clients go away in the midst of it, as they are meant to

        self.server = Server(("127.0.0.1", port), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _take(self, handler):
        self._connections.add(handler.connection)
        body = handler.rfile.read(int(handler.headers["content-length"]))
        if handler.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.headers.append(dict(handler.headers.items()))
        answer = self.answers.pop(0) if self.answers else (200, {}, b"")
        if callable(answer):
            answer(handler)
            return
        status, headers, reply = answer
        if status == 200 and handler.path == "/v1/metrics":
            self.metrics.append(metrics_service.ExportMetricsServiceRequest.FromString(body))
        elif status == 200:
            request = service.ExportProfilesServiceRequest.FromString(body)
            self.faults += check(request)
            if handler.path != "/v1development/profiles":
                status = 404
            else:
                self.requests.append(request)
        handler.send_response(status)
        for name, value in {"content-length": str(len(reply)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply)

    def hang(self, handler):
        """Take the request, and never answer."""
        self.released.wait(DEADLINE_SECONDS)
        handler.close_connection = True

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def drip(handler):
    """Answer a byte now and then, for ever."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 1000:
            handler.wfile.write(bytes((byte,)))
            handler.wfile.flush()
            time.sleep(0.02)
    except OSError:
        pass
    handler.close_connection = True


def babble(handler):
    """Answer what is no HTTP."""
    handler.wfile.write(b"\x00\x01\x02 this is not the protocol\r\n\r\n")
    handler.close_connection = True


def hang_up(handler):
    """Close the connection in the midst of an answer."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
    handler.close_connection = True
