# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""OTLP over HTTP against receivers that behave, hang, drip, babble and refuse."""

import socket

import pytest
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

from otelagent.errors import ConfigError
from otelagent.export.answer import Verdict
from otelagent.export.endpoint import Endpoint, make_tls, parse_address
from otelagent.export.http_client import HttpClient, parse_retry_after
from tests.export.receivers import HttpReceiver, babble, drip, hang_up, pids_of, record


@pytest.fixture
def client():
    made = []

    def make(receiver, **settings):
        endpoint = Endpoint(parse_address(receiver.url), **settings)
        made.append(HttpClient(endpoint, "otelagent/test"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def receiver():
    with HttpReceiver() as made:
        yield made


@pytest.mark.parametrize("gzip", [True, False])
def test_a_request_arrives_as_it_was(receiver, gzip, client):
    sender = client(receiver, gzip=gzip, headers=(("x-token", "s3cret"),))

    answer = sender.send(record(pid=42).data)

    assert answer.verdict == Verdict.DELIVERED
    assert [pids_of(one) for one in receiver.requests] == [[42]]
    assert receiver.faults == []
    [headers] = receiver.headers
    assert headers["x-token"] == "s3cret"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers.get("content-encoding") == ("gzip" if gzip else None)


def test_one_connection_serves_many_requests_and_is_renewed(receiver, client):
    sender = client(receiver)
    sender.send(record().data)
    first = sender._connection

    sender.send(record().data)
    assert sender._connection is first
    # As a receiver does that has waited long enough for the next request.
    first.sock.shutdown(socket.SHUT_RDWR)

    assert sender.send(record().data).verdict == Verdict.DELIVERED
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_tried_again_when_the_receiver_says(receiver, status, client):
    receiver.answers.append((status, {"retry-after": "7"}, b""))

    answer = client(receiver).send(record().data)

    assert (answer.verdict, answer.wait_s) == (Verdict.AGAIN, 7.0)
    assert str(status) in answer.what


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 301])
def test_what_will_not_pass_is_not_sent_again(receiver, status, client):
    receiver.answers.append((status, {}, b"no"))

    assert client(receiver).send(record().data).verdict == Verdict.REFUSED


def test_partial_success_is_read(receiver, client):
    reply = service.ExportProfilesServiceResponse()
    reply.partial_success.rejected_profiles = 2
    reply.partial_success.error_message = "too old\n\x1b[31m"
    receiver.answers.append((200, {}, reply.SerializeToString()))

    answer = client(receiver).send(record().data)

    assert (answer.verdict, answer.rejected) == (Verdict.DELIVERED, 2)
    assert answer.what == "too old [31m"


def test_an_answer_that_is_garbage_does_not_undo_a_delivery(receiver, client):
    receiver.answers.append((200, {}, b"\xff\xff\xff"))

    assert client(receiver).send(record().data).verdict == Verdict.DELIVERED


def test_a_receiver_that_never_answers_costs_the_timeout(receiver, client):
    receiver.answers.append(receiver.hang)

    answer = client(receiver, timeout_s=0.2).send(record().data)

    assert (answer.verdict, answer.what) == (Verdict.AGAIN, "no answer within 0.2 s")


def test_a_receiver_that_drips_costs_the_timeout_too(receiver, client):
    receiver.answers.append(drip)

    answer = client(receiver, timeout_s=0.3).send(record().data)

    assert (answer.verdict, answer.what) == (Verdict.AGAIN, "no answer within 0.3 s")


def test_what_is_no_answer_is_tried_again(receiver, client):
    receiver.answers.append(babble)
    sender = client(receiver)

    assert sender.send(record().data).verdict == Verdict.AGAIN
    assert sender.send(record().data).verdict == Verdict.DELIVERED


def test_an_answer_that_is_cut_counts_by_its_status(receiver, client):
    receiver.answers.append(hang_up)
    sender = client(receiver)

    assert sender.send(record().data).verdict == Verdict.DELIVERED
    assert sender.send(record().data).verdict == Verdict.DELIVERED
    assert len(receiver.requests) == 1


def test_nobody_there_is_told_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    endpoint = Endpoint(parse_address(f"http://127.0.0.1:{port}"))

    answer = HttpClient(endpoint, "x").send(b"")

    assert (answer.verdict, answer.what) == (Verdict.AGAIN, "Connection refused")


def test_tls_to_a_port_without_it_names_the_way_out(receiver):
    endpoint = Endpoint(parse_address(receiver.url.replace("http:", "https:")))

    answer = HttpClient(endpoint, "x").send(b"")

    assert answer.verdict == Verdict.AGAIN
    assert answer.what.startswith("TLS failed")
    assert "--disable-tls" in answer.hint


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_certificate_that_cannot_be_used_is_told_at_once(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content:
        path.write_bytes(content)
    endpoint = Endpoint(parse_address("https://localhost:1"), ca_file=str(path))

    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used"):
        make_tls(endpoint)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("9" * 400, 1e9),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert parse_retry_after(text, 1445412480.0) == seconds
