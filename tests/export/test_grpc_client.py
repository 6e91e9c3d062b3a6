# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""OTLP over gRPC against a server on the loopback that behaves, hangs and refuses."""

import gc
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf import any_pb2, duration_pb2
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

from otelagent.export import exporter
from otelagent.export.account import Amount
from otelagent.export.answer import Verdict
from otelagent.export.backlog import MemoryBacklog
from otelagent.export.endpoint import PROFILES, Endpoint, parse_address
from otelagent.export.grpc_client import GrpcClient
from otelagent.export.status_details import RETRY_INFO, retry_delay_s
from tests.export.conformance import check
from tests.export.receivers import DEADLINE_SECONDS, pids_of, record

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: make installs it")


def _field(number, data):
    return bytes((number << 3 | 2, len(data))) + data


def retry_info(seconds, nanos=0):
    """A `google.rpc.Status` with RetryInfo, from protobuf's own Any and Duration."""
    delay = duration_pb2.Duration(seconds=seconds, nanos=nanos).SerializeToString()
    other = any_pb2.Any(type_url="type.googleapis.com/google.rpc.Help", value=b"x")
    detail = any_pb2.Any(type_url=RETRY_INFO.decode(), value=_field(1, delay))
    return b"".join(
        (b"\x08\x08", _field(3, other.SerializeToString()), _field(3, detail.SerializeToString()))
    )


class GrpcReceiver(grpc.GenericRpcHandler):
    """Takes profiles, unless `answers` has a function to do first."""

    def __init__(self, port=0):
        self.answers, self.requests, self.faults, self.metadata = [], [], [], []
        self.released = threading.Event()
        self.server = grpc.server(ThreadPoolExecutor(4), (self,))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def service(self, details):
        return (
            grpc.unary_unary_rpc_method_handler(self.export)
            if details.method == PROFILES.method
            else None
        )

    def export(self, data, context):
        self.metadata.append(dict(context.invocation_metadata()))
        if self.answers:
            return self.answers.pop(0)(context)
        request = service.ExportProfilesServiceRequest.FromString(data)
        self.faults += check(request)
        self.requests.append(request)
        return b""

    def refuse(self, code, details=b""):
        def answer(context):
            if details:
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(code, "not now")

        return answer

    def hang(self, context):
        self.released.wait(DEADLINE_SECONDS)
        return b""


def wait_until(is_done):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def receiver():
    made = GrpcReceiver()
    yield made
    made.released.set()
    made.server.stop(None).wait()


@pytest.fixture
def client(receiver):
    address = parse_address(f"127.0.0.1:{receiver.port}", tls=False)
    made = GrpcClient(Endpoint(address, (("x-token", "s3cret"),), timeout_s=0.5), "otelagent/test")
    yield made
    made.close()


def test_a_request_arrives_as_it_was(receiver, client):
    answer = client.send(record(pid=42).data)

    assert answer.verdict == Verdict.DELIVERED
    assert [pids_of(one) for one in receiver.requests] == [[42]]
    assert receiver.faults == []
    assert receiver.metadata[0]["x-token"] == "s3cret"
    assert receiver.metadata[0]["user-agent"].startswith("otelagent/test")


def test_partial_success_is_read(receiver, client):
    reply = service.ExportProfilesServiceResponse()
    reply.partial_success.rejected_profiles = 2
    receiver.answers.append(lambda _context: reply.SerializeToString())

    assert client.send(record().data).rejected == 2


def test_exhausted_with_retry_info_is_tried_again_when_it_says(receiver, client):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    receiver.answers += [receiver.refuse(code, retry_info(7, 500_000_000)), receiver.refuse(code)]

    with_delay, without = client.send(record().data), client.send(record().data)

    assert (with_delay.verdict, with_delay.wait_s) == (Verdict.AGAIN, 7.5)
    assert without.verdict == Verdict.REFUSED


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("UNAVAILABLE", Verdict.AGAIN),
        ("ABORTED", Verdict.AGAIN),
        ("DATA_LOSS", Verdict.AGAIN),
        ("INVALID_ARGUMENT", Verdict.REFUSED),
        ("UNIMPLEMENTED", Verdict.REFUSED),
        ("UNAUTHENTICATED", Verdict.REFUSED),
        ("INTERNAL", Verdict.REFUSED),
    ],
)
def test_codes_are_judged_as_the_protocol_says(receiver, client, code, verdict):
    receiver.answers.append(receiver.refuse(grpc.StatusCode[code]))

    answer = client.send(record().data)

    assert (answer.verdict, answer.what) == (verdict, f"{code}: not now")


def test_nothing_is_left_of_a_call_that_failed(receiver, client):
    """Each held its request, in a cycle, for Python to find after a thousand calls."""
    receiver.answers += [receiver.refuse(grpc.StatusCode.INTERNAL)] * 5
    gc.collect()
    gc.disable()
    try:
        verdicts = [client.send(record().data).verdict for _ in range(5)]
        calls = [each for each in gc.get_objects() if "Rendezvous" in type(each).__name__]
    finally:
        gc.enable()

    assert verdicts == [Verdict.REFUSED] * 5
    assert calls == []


def test_a_receiver_that_never_answers_costs_the_timeout(receiver, client):
    receiver.answers.append(receiver.hang)

    answer = client.send(record().data)

    assert (answer.verdict, answer.what) == (Verdict.AGAIN, "no answer within 0.5 s")


def test_an_abort_ends_what_is_being_sent(receiver, client):
    receiver.answers.append(receiver.hang)
    client._endpoint = Endpoint(client._endpoint.address, timeout_s=DEADLINE_SECONDS)
    threading.Timer(0.1, client.abort).start()

    assert client.send(record().data).verdict == Verdict.AGAIN


def test_nobody_there_is_tried_again(receiver, client):
    receiver.server.stop(None).wait()

    answer = client.send(record().data)

    assert answer.verdict == Verdict.AGAIN


@pytest.mark.parametrize(
    "details", [b"", b"\xff" * 20, b"\x1a\x05abc", b"\x1a\x00", b"\x08\x08", b"x" * 20_000]
)
def test_details_without_retry_info_say_nothing(details):
    assert retry_delay_s(details) is None


def test_a_delay_below_zero_is_none():
    assert retry_delay_s(retry_info(-5)) == 0.0


def test_a_receiver_that_hangs_refuses_dies_and_comes_back_loses_nothing(monkeypatch):
    monkeypatch.setattr(exporter, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(exporter, "MAX_WAIT_S", 0.1)
    first = GrpcReceiver()
    exhausted = first.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_info(0, 50_000_000))
    first.answers += [first.hang, exhausted]
    endpoint = Endpoint(parse_address(f"127.0.0.1:{first.port}", tls=False), timeout_s=0.3)
    client = GrpcClient(endpoint, "otelagent/test")
    sender = exporter.Exporter("r", client, MemoryBacklog(1 << 20), random.Random(1))
    sender.start()
    sender.put(record(pid=1))
    wait_until(lambda: sender.account.delivered.requests)  # what is on its way comes twice
    first.released.set()
    first.server.stop(None).wait()
    sender.put(record(pid=2))
    wait_until(lambda: sender.account.retries >= 3)

    second = GrpcReceiver(first.port)
    wait_until(lambda: second.requests)
    sender.close(5)
    second.server.stop(None).wait()

    assert [pids_of(one) for one in first.requests + second.requests] == [[1], [2]]
    assert first.faults + second.faults == []
    assert sender.account.unaccounted(sender.queued) == Amount()
