# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent agent` on this kernel: what it sampled arrives, and what it forgets comes again."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from integration.runs import OTELAGENT, Running, free_port, wait_until
from otelagent import metrics
from otelagent.agent import Agent
from otelagent.agentplan import Plan
from otelagent.bpf.known import KnownTraces
from otelagent.chance import new_random
from otelagent.formats.proc_status import effective_capabilities
from otelagent.kernel import capabilities
from otelagent.options import Options
from otelagent.profiler import Profiler
from otelagent.traces.recent import Bounds
from tests.export.receivers import HttpReceiver, pids_of, resources_of

DEEP = """
import random, time
def descend(depth):
    return sum(i * i for i in range(3000)) if depth == 0 else descend(depth - 1)
end = time.monotonic() + 60
while time.monotonic() < end:
    descend(random.randrange(60))
"""


@pytest.fixture
def busy():
    process = subprocess.Popen([sys.executable, "-S", "-c", DEEP])
    yield process
    process.kill()
    process.wait()


def samples_of(request):
    return sum(
        len(sample.timestamps_unix_nano)
        for resource in request.resource_profiles
        for scope in resource.scope_profiles
        for profile in scope.profiles
        for sample in profile.samples
    )


def names_of(request):
    table = request.dictionary
    return {table.string_table[function.name_strindex] for function in table.function_table}


def test_what_is_sampled_arrives_and_the_end_comes_after_a_last_report(busy):
    environ = os.environ | {"OTEL_RESOURCE_ATTRIBUTES": "team=x", "OTEL_SERVICE_NAME": "shop"}
    with HttpReceiver() as receiver:
        agent = subprocess.Popen(
            [
                *OTELAGENT,
                "agent",
                "-p",
                str(busy.pid),
                f"-collection-agent={receiver.url}",
                "-samples-per-second=99",
                "--reporter-interval",
                "300ms",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        wait_until(lambda: len(receiver.requests) >= 3, "a third request")
        agent.send_signal(signal.SIGTERM)
        said = agent.communicate()[1]

    sent = sum(map(samples_of, receiver.requests))
    assert (agent.returncode, receiver.faults) == (0, [])
    assert {pid for one in receiver.requests for pid in pids_of(one)} == {busy.pid}
    assert "descend" in set.union(*map(names_of, receiver.requests))
    count = len(receiver.requests)
    assert f"{count} ({sent} samples) attempted = {count} ({sent} samples) delivered" in said
    assert "Traceback" not in said
    attributes = resources_of(receiver.requests[0])[0]
    assert (attributes["service.name"], attributes["team"]) == ("shop", "x")
    assert attributes["process.command"] == sys.executable


def test_a_service_manager_is_told_and_a_hangup_reloads(busy, tmp_path):
    """READY, RELOADING, STOPPING; capabilities that are not needed any more are gone."""
    settings, path = tmp_path / "agent.yaml", tmp_path / "notify"
    settings.write_text("reporter-interval: 200ms\nsamples-per-second: 99\n")
    told = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(0.05)
        environ = os.environ | {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}
        options = ("agent", "-p", busy.pid, "--config", settings, "--store", tmp_path / "store")

        def has_told(line):
            with suppress(TimeoutError):
                told.extend(manager.recv(1000).decode().splitlines())
            return told.count(line)

        with Running(*options, env=environ) as agent:
            wait_until(lambda: has_told("READY=1"), "READY")
            threads = Path(f"/proc/{agent.process.pid}/task").glob("*/status")
            held = {effective_capabilities(each.read_text()) for each in threads}
            wait_until(lambda: has_told("WATCHDOG=1") > 1, "a sign of life")
            settings.write_text("reporter-interval: 300ms\nstore-age: 2h\n")
            agent.process.send_signal(signal.SIGHUP)
            wait_until(lambda: has_told("READY=1") > 1, "READY after the reload")
            agent.process.send_signal(signal.SIGTERM)
            wait_until(lambda: has_told("STOPPING=1"), "STOPPING")
            assert agent.end() == 0

    now = capabilities.held()
    assert held == {
        capabilities.still_needed(
            now, writes_to_others=False, wants_admin=capabilities.may_want_admin()
        )
    }
    changed = "reloaded changed=reporter-interval, samples-per-second needs_a_restart=store-age"
    assert changed in agent.said
    assert "RELOADING=1" in told
    assert "; SIGTERM ends it after a last report" in agent.said  # nobody types Ctrl-C there


def read_metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    rows = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def test_its_metrics_agree_with_what_it_sent(busy):
    """By Prometheus, by OTLP, and in the last line."""
    port = free_port()
    with HttpReceiver() as receiver:
        options = (
            *("agent", "-p", busy.pid, f"-collection-agent={receiver.url}"),
            *("-samples-per-second=99", "--reporter-interval=200ms", "--send-metrics"),
            *(f"--metrics-listen={port}", "--monitor-interval=200ms"),
        )
        with Running(*options) as agent:
            wait_until(lambda: receiver.requests and receiver.metrics, "profiles and metrics")
            read = read_metrics(port)
            agent.process.send_signal(signal.SIGTERM)
            status = agent.end()

    sent = sum(map(samples_of, receiver.requests))
    metrics_by_name = {
        metric.name: metric.sum.data_points or metric.gauge.data_points
        for metric in receiver.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
    }
    assert status == 0
    assert f"({sent} samples) attempted = " in agent.said
    assert metrics_by_name["otelagent.samples"][0].as_int == sent
    assert 0 < read["otelagent_samples_total"] <= sent
    assert read["otelagent_sampling_frequency"] == 99
    assert read['otelagent_bpf_runs_total{program="on_cpu_tick"}'] > 0
    assert 0 < read['otelagent_map_entries{map="mappings"}'] < 1 << 19


class Counting:
    """A sink that counts."""

    samples = 0

    def put(self, record):
        self.samples += record.samples

    def close(self, seconds):
        pass

    def summary(self):
        return ""


def test_traces_that_are_forgotten_lose_no_sample(busy):
    """With room for 10 traces, of which the program has 60, each goes and comes all the time."""
    unknown = metrics.trace_forgotten.total
    profiler = Profiler(Options(frequency_hz=499, pids=(busy.pid,)))
    profiler.start()
    known = KnownTraces.of(profiler.bpf)
    sink = Counting()
    plan = Plan(interval_s=0.1, bounds=Bounds(traces=10, age=2, frames=20))
    agent = Agent(profiler, [sink], plan, new_random(), known)

    def have_come_again():
        time.sleep(max(agent.due - time.monotonic(), 0))
        agent.work()
        sent = profiler.losses().counters["TRACES"]
        return sent > len(profiler.collector.traces) + 60

    wait_until(have_come_again, "a trace that was forgotten")
    profiler.stop()
    agent.report()
    known.close()
    profiler.close()

    tally = profiler.collector.tally
    assert (sink.samples, metrics.trace_forgotten.total) == (tally.samples, unknown)


class Lots:
    """Draws what it was told."""

    def __init__(self, *lots):
        self.lots = list(lots)

    def random(self):
        return 0.5

    def randrange(self, _stop):
        return self.lots.pop(0)


def test_no_cpu_is_interrupted_in_an_interval_that_the_lot_did_not_fall_on(busy):
    profiler = Profiler(Options(frequency_hz=499, pids=(busy.pid,)))
    profiler.start()
    known = KnownTraces.of(profiler.bpf)
    plan = Plan(interval_s=600, threshold=50, lot_interval_s=0)
    agent = Agent(profiler, [Counting()], plan, Lots(99, 0), known)

    def ticks():
        return profiler.losses().counters["TICKS"]

    agent.work()
    before = ticks()
    time.sleep(0.2)
    during_off = ticks() - before
    agent.work()
    wait_until(lambda: ticks() > before, "a tick")
    profiler.stop()
    known.close()
    profiler.close()

    assert (during_off, agent.is_sampling) == (0, True)
