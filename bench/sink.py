# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A receiver of OTLP profiles that counts: `python bench/sink.py PORT FILE [DIR]`.

What comes in on PORT is counted as it is on the wire, frames and headers of HTTP included, and
passed on to a server of gRPC or HTTP. After each request FILE has the totals as JSON. In DIR
each request is kept, without compression, for `wire_size.py`.
A stack of the workload `depth` is complete when all its frames are there, down to `_start`.
"""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

METHOD = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
PROGRAM, DEPTH = "depth", 40
HTTP2 = b"PRI"
"""How a connection of HTTP/2 begins, so of gRPC here."""


class Totals:
    """What was received until now; for any thread."""

    def __init__(self, path: Path, keep: Path | None = None) -> None:
        self._path = path
        self._keep = keep
        self._lock = threading.Lock()
        self._totals = {"wire_bytes": 0, "requests": 0, "samples": 0, "stacks": 0, "plain_bytes": 0}
        self._first: dict[str, float] = {}
        self.server: grpc.Server | None = None
        """Held here, as it ends when nobody holds it."""

    def count_bytes(self, count: int) -> None:
        """Count what came over the wire."""
        with self._lock:
            self._totals["wire_bytes"] += count

    def take(self, data: bytes) -> bytes:
        """Count a request; gives the answer to it."""
        now = time.monotonic()
        request = service.ExportProfilesServiceRequest.FromString(data)
        samples = [s for p in profiles_of(request) for s in p.samples]
        with self._lock:
            self._totals["requests"] += 1
            if self._keep:
                name = f"{self._totals['requests']:05}.otlp"
                (self._keep / name).write_bytes(data)
            self._totals["plain_bytes"] += len(data)
            self._totals["stacks"] += len(samples)
            self._totals["samples"] += sum(len(s.timestamps_unix_nano) or 1 for s in samples)
            if "first_complete" not in self._first and has_complete(request.dictionary, samples):
                self._first["first_complete"] = now
            self._path.with_suffix(".new").write_text(json.dumps(self._totals | self._first))
        self._path.with_suffix(".new").rename(self._path)
        return service.ExportProfilesServiceResponse().SerializeToString()


def profiles_of(request: Any) -> list[Any]:
    scopes = [scope for each in request.resource_profiles for scope in each.scope_profiles]
    return [profile for scope in scopes for profile in scope.profiles]


def has_complete(tables: Any, samples: list[Any]) -> bool:
    """Look for a whole stack of the workload."""
    for sample in samples:
        places = tables.stack_table[sample.stack_index].location_indices
        files = [file_of(tables, place) for place in places]
        if len(files) > DEPTH and files[-1] == PROGRAM and files.count(PROGRAM) > DEPTH:
            return True
    return False


def file_of(tables: Any, place: int) -> str:
    mapping = tables.mapping_table[tables.location_table[place].mapping_index]
    return tables.string_table[mapping.filename_strindex].rpartition("/")[2]


def serve_grpc(totals: Totals) -> int:
    """Start a server of gRPC; gives its port."""
    server = grpc.server(
        futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 64 << 20)]
    )
    handler = grpc.unary_unary_rpc_method_handler(lambda data, _context: totals.take(data))
    name, _, method = METHOD[1:].rpartition("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    totals.server = server
    return port


def serve_http(totals: Totals) -> int:
    """Start a server of HTTP; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            answer = totals.take(data)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def pump(source: socket.socket, target: socket.socket, totals: Totals | None) -> None:
    """Pass on what comes, counted if somebody counts."""
    try:
        while data := source.recv(1 << 16):
            if totals:
                totals.count_bytes(len(data))
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has gone; what came was counted


def pass_on(client: socket.socket, ports: dict[bool, int], totals: Totals) -> None:
    """Connect a client with the server that it speaks to."""
    is_http2 = client.recv(len(HTTP2), socket.MSG_PEEK) == HTTP2
    server = socket.create_connection(("127.0.0.1", ports[is_http2]))
    for each in (client, server):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=pump, args=(server, client, None), daemon=True).start()
    pump(client, server, totals)


def main() -> None:
    """Serve until killed."""
    totals = Totals(*map(Path, sys.argv[2:4]))
    ports = {True: serve_grpc(totals), False: serve_http(totals)}
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        print("listening", flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=pass_on, args=(client, ports, totals), daemon=True).start()


if __name__ == "__main__":
    main()
