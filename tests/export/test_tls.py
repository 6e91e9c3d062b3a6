# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""TLS and mTLS, by HTTP and gRPC: who is trusted is served, who is not is told why."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from otelagent.errors import ConfigError
from otelagent.export.answer import Verdict
from otelagent.export.endpoint import Endpoint, make_tls, parse_address
from otelagent.export.grpc_client import GrpcClient
from otelagent.export.http_client import HttpClient
from tests.export.certificates import make_certificates, server_context
from tests.export.receivers import HttpReceiver, pids_of, record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("certificates")
    make_certificates(made)
    return made


def files(folder, ca="ca", own=""):
    found = {"ca_file": str(folder / f"{ca}.pem") if ca else ""}
    if own:
        found |= {"cert_file": str(folder / f"{own}.pem"), "key_file": str(folder / f"{own}.key")}
    return found


def send(client):
    try:
        return client.send(record(pid=42).data)
    finally:
        client.close()


@pytest.fixture
def make_http(folder):
    made = []

    def make(*, wants_client):
        made.append(HttpReceiver(context=server_context(folder, wants_client=wants_client)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def http_client(receiver, **settings):
    address = parse_address(f"https://localhost:{receiver.port}")
    return HttpClient(Endpoint(address, timeout_s=5.0, **settings), "x")


@pytest.mark.parametrize("own", ["", "client"])
def test_http_delivers_to_a_receiver_that_is_trusted(make_http, folder, own):
    http = make_http(wants_client=bool(own))

    answer = send(http_client(http, **files(folder, own=own)))

    assert answer.verdict == Verdict.DELIVERED
    assert [pids_of(one) for one in http.requests] == [[42]]


def test_http_sends_nothing_to_one_that_is_not(make_http, folder):
    http = make_http(wants_client=False)

    answer = send(http_client(http, **files(folder, ca="other", own="client")))

    assert answer.verdict == Verdict.AGAIN
    assert answer.what.startswith("its certificate is not trusted")
    assert "--ca-certificate" in answer.hint
    assert http.requests == []


@pytest.mark.parametrize("own", ["", "stranger"])
def test_http_without_the_right_certificate_is_told_why(make_http, folder, own):
    http = make_http(wants_client=True)

    answer = send(http_client(http, **files(folder, own=own)))

    assert answer.verdict == Verdict.AGAIN
    assert "TLS failed" in answer.what
    assert own or "--client-certificate" in answer.hint
    assert http.requests == []


@pytest.fixture
def grpc_port(folder):
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed: make installs it")
    read = {name: (folder / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem")}
    pair = [(read["server.key"], read["server.pem"])]
    credentials = grpc.ssl_server_credentials(pair, read["ca.pem"], require_client_auth=True)
    handler = grpc.unary_unary_rpc_method_handler(lambda _data, _context: b"")
    generic = type("Any", (grpc.GenericRpcHandler,), {"service": lambda _self, _call: handler})()
    server = grpc.server(ThreadPoolExecutor(2), (generic,))
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def grpc_client(port, **settings):
    return GrpcClient(Endpoint(parse_address(f"localhost:{port}"), timeout_s=5.0, **settings), "x")


def test_grpc_delivers_where_both_are_trusted(grpc_port, folder):
    answer = send(grpc_client(grpc_port, **files(folder, own="client")))

    assert answer.verdict == Verdict.DELIVERED


def test_what_the_system_trusts_is_trusted(grpc_port, make_http, folder, monkeypatch):
    """gRPC would trust the authorities that it brings, and nothing else."""
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    own = files(folder, ca="", own="client")

    answers = [
        send(grpc_client(grpc_port, **own)),
        send(http_client(make_http(wants_client=True), **own)),
    ]

    assert [answer.verdict for answer in answers] == [Verdict.DELIVERED] * 2


def test_grpc_tries_again_where_one_is_not(grpc_port, folder):
    untrusted = send(grpc_client(grpc_port, **files(folder, ca="other", own="client")))
    stranger = send(grpc_client(grpc_port, **files(folder, own="stranger")))

    assert (untrusted.verdict, stranger.verdict) == (Verdict.AGAIN, Verdict.AGAIN)
    assert "--ca-certificate" in untrusted.hint


def test_a_key_that_does_not_fit_is_told_at_start(folder):
    wrong = files(folder, own="client") | {"key_file": str(folder / "server.key")}
    endpoint = Endpoint(parse_address("https://localhost:1"), **wrong)

    with pytest.raises(ConfigError, match=r"client\.pem cannot be used: KEY_VALUES_MISMATCH"):
        make_tls(endpoint)


def test_a_key_that_is_not_there_is_the_file_that_is_named(folder):
    wrong = files(folder, own="client") | {"key_file": str(folder / "nokey")}

    with pytest.raises(ConfigError, match=r"nokey cannot be used: No such file"):
        make_tls(Endpoint(parse_address("https://localhost:1"), **wrong))


def test_a_file_without_a_key_is_told_in_words(folder):
    endpoint = Endpoint(
        parse_address("https://localhost:1"),
        ca_file=str(folder / "ca.pem"),
        cert_file=str(folder / "client.pem"),
    )

    with pytest.raises(ConfigError, match=r"client\.pem cannot be used: it holds no certificate"):
        make_tls(endpoint)


def told(client):
    answer = send(client)
    assert answer.verdict == Verdict.AGAIN
    return answer.what, answer.hint


def plainly(port):
    address = parse_address(f"127.0.0.1:{port}", tls=False)
    return GrpcClient(Endpoint(address, timeout_s=5.0), "x")


def test_who_takes_one_protocol_for_another_is_told_which(grpc_port, make_http, folder):
    secure = make_http(wants_client=False)
    with HttpReceiver() as plain:
        http = Endpoint(parse_address(f"http://127.0.0.1:{secure.port}"), timeout_s=5.0)
        tls = Endpoint(parse_address(f"127.0.0.1:{plain.port}"), timeout_s=5.0, **files(folder))

        assert told(GrpcClient(tls, "x")) == (
            "TLS failed: WRONG_VERSION_NUMBER",
            "a receiver without TLS needs --disable-tls",
        )
        assert told(plainly(plain.port)) == (
            "it does not speak gRPC",
            "is it a port of HTTP (http:// in its address)?",
        )
        assert "TLS" in told(plainly(secure.port))[1]
        assert "TLS" in told(HttpClient(http, "x"))[1]


def test_what_grpc_does_not_trust_or_find_is_told_in_our_words(grpc_port, folder):
    untrusted = grpc_client(grpc_port, **files(folder, ca="other", own="client"))
    nowhere = Endpoint(parse_address("no-such-host.invalid:1", tls=False), timeout_s=5.0)

    assert told(untrusted)[0].startswith("its certificate is not trusted: ")
    assert told(GrpcClient(nowhere, "x"))[0] == "the host no-such-host.invalid is not known"
