# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""gRPC beside a server of HTTP/2 that does what it is told: order, limits, ends of all kinds."""

import base64
import gzip
import random
import socket
import threading
import time
from contextlib import suppress

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, WindowUpdated
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

from otelagent.export.answer import Verdict
from otelagent.export.endpoint import PROFILES, Endpoint, parse_address
from otelagent.export.grpc_client import GrpcClient
from tests.export.test_grpc_client import retry_info

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
WELL = [("grpc-status", "0")]


def message(data=b"", packed=0):
    return bytes((packed,)) + len(data).to_bytes(4, "big") + data


EMPTY = message()


class Server:
    """Serves one connection after the other; `answer(h2, stream, sock)` says what it does."""

    def __init__(self, answer):
        self.answer = answer
        self.connections, self.calls = 0, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                sock = self.listener.accept()[0]
                self.connections += 1
                with suppress(OSError), sock:
                    self._serve(sock)

    def _serve(self, sock):
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        h2.initiate_connection()
        sock.sendall(h2.data_to_send())
        bodies = {}
        while data := sock.recv(1 << 16):
            for event in h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    bodies[event.stream_id] = (dict(event.headers), [])
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id][1].append(event.data)
                    h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    headers, parts = bodies.pop(event.stream_id)
                    self.calls.append((headers, b"".join(parts)))
                    if self.answer(h2, event.stream_id, sock):
                        return
                elif isinstance(event, WindowUpdated):
                    continue
            sock.sendall(h2.data_to_send())


def answering(head=HEAD, data=EMPTY, trailers=WELL):
    def answer(h2, stream, _sock):
        h2.send_headers(stream, head, end_stream=trailers is None and not data)
        for at in range(0, len(data), 16_000):
            h2.send_data(stream, data[at : at + 16_000])
        if trailers is not None:
            h2.send_headers(stream, trailers, end_stream=True)
        elif data:
            h2.end_stream(stream)

    return answer


@pytest.fixture
def serve():
    made = []

    def start(answer, **settings):
        server = Server(answer)
        address = parse_address(f"127.0.0.1:{server.port}", tls=False)
        client = GrpcClient(Endpoint(address, timeout_s=2.0, **settings), "otelagent/test")
        made.append((server, client))
        return server, client

    yield start
    for server, client in made:
        client.close()
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()


def test_calls_follow_one_another_on_one_connection(serve):
    server, client = serve(answering(), headers=(("x-token", "s3cret"),))

    answers = [client.send(data) for data in (b"one", b"two", b"three")]

    assert [answer.verdict for answer in answers] == [Verdict.DELIVERED] * 3
    assert server.connections == 1
    assert [gzip.decompress(body[5:]) for _, body in server.calls] == [b"one", b"two", b"three"]
    headers, body = server.calls[0]
    assert (body[0], int.from_bytes(body[1:5], "big")) == (1, len(body) - 5)
    assert (headers[":path"], headers["te"], headers["x-token"]) == (
        *(PROFILES.method, "trailers", "s3cret"),
    )
    assert headers["grpc-timeout"].endswith("m")


def test_what_is_larger_than_the_window_arrives_whole(serve):
    server, client = serve(answering(), gzip=False)
    data = random.Random(1).randbytes(3_000_001)

    assert client.send(data).verdict == Verdict.DELIVERED
    assert client.send(b"").verdict == Verdict.DELIVERED
    assert [body for _, body in server.calls] == [message(data), message()]


@pytest.mark.parametrize(
    ("answer", "verdict", "what"),
    [
        (answering(trailers=None), Verdict.REFUSED, "UNKNOWN: it did not say how the call ended"),
        (
            answering([(":status", "503")], b"<html>", None),
            *(Verdict.AGAIN, "UNAVAILABLE: HTTP 503"),
        ),
        (answering([(":status", "404")], b"", None), Verdict.REFUSED, "UNIMPLEMENTED: HTTP 404"),
        (
            answering(
                [*HEAD, ("grpc-status", "14"), ("grpc-message", "later%2C%0Aplease")], b"", None
            ),
            *(Verdict.AGAIN, "UNAVAILABLE: later, please"),
        ),
        (answering(trailers=[("grpc-status", "99")]), Verdict.REFUSED, "UNKNOWN"),
        (
            lambda h2, stream, _sock: h2.reset_stream(stream, 7),
            *(Verdict.AGAIN, "UNAVAILABLE: it gave the request up"),
        ),
        (
            lambda h2, stream, _sock: h2.reset_stream(stream, 2),
            *(Verdict.REFUSED, "INTERNAL: it gave the request up"),
        ),
    ],
)
def test_ends_of_all_kinds_are_judged(serve, answer, verdict, what):
    _, client = serve(answer)

    found = client.send(b"x")

    assert (found.verdict, found.what) == (verdict, what)


def test_no_more_of_an_answer_is_kept_than_is_allowed(serve, monkeypatch):
    monkeypatch.setattr("otelagent.export.grpc_client.MAX_ANSWER_BYTES", 100)
    _, client = serve(answering(data=message(bytes(101))))

    found = client.send(b"x")

    assert (found.verdict, found.what) == (
        *(Verdict.REFUSED, "RESOURCE_EXHAUSTED: its answer is too long"),
    )


@pytest.mark.parametrize("packed", [0, 1])
def test_partial_success_is_read_packed_or_not(serve, packed):
    reply = service.ExportProfilesServiceResponse()
    reply.partial_success.rejected_profiles = 3
    data = reply.SerializeToString()
    _, client = serve(answering(data=message(gzip.compress(data) if packed else data, packed)))

    assert client.send(b"x").rejected == 3


def test_an_answer_that_says_it_is_packed_and_is_not_has_still_taken_the_request(serve):
    _, client = serve(answering(data=message(b"\xff\xff\xff", 1)))

    assert client.send(b"x").verdict == Verdict.DELIVERED


def test_a_delay_without_padding_is_read(serve):
    details = base64.b64encode(retry_info(3)).decode().rstrip("=")
    trailers = [("grpc-status", "8"), ("grpc-status-details-bin", details)]
    _, client = serve(answering(trailers=trailers))

    found = client.send(b"x")

    assert (found.verdict, found.wait_s) == (Verdict.AGAIN, 3.0)


def test_who_goes_away_between_calls_is_asked_again_at_once(serve):
    def go_away(h2, stream, sock):
        answering()(h2, stream, sock)
        h2.close_connection()
        sock.sendall(h2.data_to_send())
        return True

    server, client = serve(go_away)

    assert [client.send(b"x").verdict for _ in range(3)] == [Verdict.DELIVERED] * 3
    assert server.connections == 3


def test_who_hangs_up_in_the_midst_of_an_answer_is_tried_again_later(serve):
    def hang_up(h2, stream, sock):
        h2.send_headers(stream, HEAD)
        sock.sendall(h2.data_to_send())
        return True

    _, client = serve(hang_up)

    assert client.send(b"x").verdict == Verdict.AGAIN


def test_who_answers_a_byte_now_and_then_gets_no_more_than_the_timeout(serve):
    def drip(h2, stream, sock):
        h2.send_headers(stream, HEAD)
        for byte in h2.data_to_send() * 40:
            sock.sendall(bytes((byte,)))
            time.sleep(0.05)
        return True

    server, client = serve(drip)
    began = time.monotonic()

    assert client.send(b"x").what == "no answer within 2 s"
    assert time.monotonic() - began < 4
    assert server.connections == 1


def test_who_begins_with_something_else_does_not_speak_grpc():
    listener = socket.create_server(("127.0.0.1", 0))

    def greet():
        with listener.accept()[0] as sock, suppress(OSError):
            sock.sendall(b"220 mail.example.org ESMTP\r\n")
            while sock.recv(1 << 16):
                pass

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    address = parse_address(f"127.0.0.1:{listener.getsockname()[1]}", tls=False)
    client = GrpcClient(Endpoint(address, timeout_s=5.0), "x")

    found = client.send(b"x")

    assert (found.verdict, found.what) == (Verdict.AGAIN, "it does not speak gRPC")
    client.close()
    thread.join()
    listener.close()
