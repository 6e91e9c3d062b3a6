# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The server of metrics: what it answers, and that nobody can keep it busy."""

import http.client
import socket
import threading
import time

import pytest

from otelagent.errors import ConfigError, OutputError
from otelagent.health import server as module
from otelagent.health.server import HealthServer, parse_listen
from otelagent.metrics import Kind, Reading


class Agent:
    """What is asked."""

    trouble = ""
    is_ready = True

    is_broken = False

    def gather(self):
        if self.is_broken:
            raise ZeroDivisionError
        return [Reading("otelagent.things", "things", Kind.COUNTER, "1", (((), 7),))]


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
def server(agent):
    made = HealthServer("127.0.0.1", 0)
    made.start(agent.gather, lambda: agent.trouble, lambda: agent.is_ready)
    yield made
    made.close()


def ask(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_metrics_are_answered_to_who_asks(server):
    status, text = ask(server, "/metrics?name=x")

    assert status == 200
    assert text.splitlines()[-1] == "otelagent_things_ratio_total 7"
    assert ask(server, "/metrics", "HEAD") == (200, "")


def test_health_and_readiness_are_told_apart(server, agent):
    assert (ask(server, "/healthz"), ask(server, "/readyz")) == ((200, "ok\n"), (200, "ok\n"))

    agent.is_ready = False
    assert ask(server, "/healthz")[0] == 200
    assert ask(server, "/readyz") == (503, "not sampling\n")

    agent.trouble = "a thread has ended"
    assert ask(server, "/healthz") == (503, "a thread has ended\n")


def test_everything_else_is_refused(server):
    assert ask(server, "/")[0] == 404
    assert ask(server, "/metrics", "POST")[0] == 405


@pytest.mark.parametrize("said", [b"", b"\x00\xff" * 9000, b"GET /metrics HTTP/1.1\r\n"])
def test_who_says_nonsense_or_nothing_keeps_nobody_waiting_long(server, monkeypatch, said):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", server.port)) as rude:
        rude.sendall(said)
        began = time.monotonic()
        assert ask(server, "/healthz")[0] == 200

    assert time.monotonic() - began < 5


def test_a_bug_in_a_reading_does_not_end_the_server(server, agent):
    agent.is_broken = True

    with pytest.raises(http.client.HTTPException):
        ask(server, "/metrics")

    assert ask(server, "/healthz")[0] == 200


def test_closing_ends_the_thread():
    made = HealthServer("127.0.0.1", 0)
    before = threading.active_count()
    made.start(list, str, bool)
    made.close()

    assert threading.active_count() == before


def test_a_port_in_use_is_one_clear_line(server):
    with pytest.raises(OutputError, match=f"cannot listen on 127.0.0.1:{server.port}: Address"):
        HealthServer("127.0.0.1", server.port)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("9911", ("127.0.0.1", 9911)),
        (":9911", ("127.0.0.1", 9911)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9911", ("::1", 9911)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_without_a_host_it_is_the_loopback(text, meant):
    assert parse_listen(text) == meant


@pytest.mark.parametrize("text", ["host", "1.2.3.4:", "1.2.3.4:x", "x:70000", "x:-1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError):
        parse_listen(text)
