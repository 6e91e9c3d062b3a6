# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent sends to a real OpenTelemetry Collector, which sends on to a receiver of ours.

`make collector` builds it (minutes); where it is not built, these tests are left out. The
configuration is the one that the documentation shows, with places of this test.
"""

import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

from integration.runs import OTELAGENT, free_port, wait_until, workload
from otelagent.export.records import read_records
from tests.export.certificates import make_certificates
from tests.export.conformance import check
from tests.export.receivers import HttpReceiver, resources_of

ROOT = Path(__file__).resolve().parents[1]
COLLECTOR = ROOT / "build" / "collector" / "otelcol"
CONFIG = ROOT / "integration" / "collector" / "collector.yaml"

pytestmark = [
    pytest.mark.sweep,
    pytest.mark.skipif(not COLLECTOR.is_file(), reason="no collector: make collector"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture
def busy():
    process = subprocess.Popen(workload("spin.py", "60"), stdout=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


class Collector:
    """One that is started, killed and started again, at the same places."""

    def __init__(self, folder, backend, certificates=None, *, wants_client=False):
        self.folder = folder
        self.ports = {"grpc": free_port(), "http": free_port()}
        settings = yaml.safe_load(CONFIG.read_text())
        for name, protocol in settings["receivers"]["otlp"]["protocols"].items():
            protocol["endpoint"] = f"127.0.0.1:{self.ports[name]}"
            protocol["tls"] = tls = {
                key: path.replace("/etc/otelcol", str(certificates))
                for key, path in protocol["tls"].items()
                if key != "client_ca_file" or wants_client
            }
            if certificates is None:
                del protocol["tls"]
            else:
                assert all(Path(path).is_file() for path in tls.values())
        settings["exporters"]["otlp_http"]["endpoint"] = backend
        self.config = folder / "collector.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.process = None

    def start(self):
        path = self.folder / "log"
        with path.open("ab") as log:
            begin = log.tell()
            gate = "--feature-gates=service.profilesSupport"
            self.process = subprocess.Popen([COLLECTOR, "--config", self.config, gate], stderr=log)

        def is_ready():
            assert self.process.poll() is None, path.read_text()
            return b"Everything is ready" in path.read_bytes()[begin:]

        wait_until(is_ready, "the collector")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def options(self, protocol, certificates, *, is_client):
        port = self.ports[protocol]
        if certificates is None:
            address = f"127.0.0.1:{port}" if protocol == "grpc" else f"http://127.0.0.1:{port}"
            return [f"-collection-agent={address}", "-disable-tls"][
                : 2 if protocol == "grpc" else 1
            ]
        address = f"localhost:{port}" if protocol == "grpc" else f"https://localhost:{port}"
        found = [f"--collection-agent={address}", f"--ca-certificate={certificates}/ca.pem"]
        if is_client:
            found += [
                f"--client-certificate={certificates}/client.pem",
                f"--client-key={certificates}/client.key",
            ]
        return found


@contextmanager
def agent(busy, folder, *options):
    """Sample one process; what is sent is kept as well, to be compared."""
    interval = ("--samples-per-second=199", "--reporter-interval=400ms")
    command = [*OTELAGENT, "agent", "-p", str(busy.pid), f"--store={folder}/store", *interval]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen([*command, *options], stderr=said)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (folder / "said").read_text()
    finally:
        process.kill()
        process.wait()


def times(requests):
    """The time of each sample: no two samples of one thread have the same."""
    return [
        at
        for request in requests
        for resource in request.resource_profiles
        for scope in resource.scope_profiles
        for profile in scope.profiles
        for sample in profile.samples
        for at in sample.timestamps_unix_nano
    ]


def stored(folder):
    found = []
    for path in (folder / "store").glob("*.otlp.zst"):
        with path.open("rb") as stream:
            found += [
                service.ExportProfilesServiceRequest.FromString(record.data)
                for record in read_records(stream)
            ]
    return found


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("security", ["plain", "tls", "mtls"])
def test_every_sample_passes_a_collector(tmp_path, busy, certificates, protocol, security):
    folder = None if security == "plain" else certificates
    is_client = security == "mtls"
    with (
        HttpReceiver() as backend,
        Collector(tmp_path, backend.url, folder, wants_client=is_client) as collector,
        agent(busy, tmp_path, *collector.options(protocol, folder, is_client=is_client)),
    ):
        wait_until(lambda: len(backend.requests) >= 3, "a third request")

    sent = stored(tmp_path)
    assert [fault for request in sent for fault in check(request)] == []
    assert sorted(times(backend.requests)) == sorted(times(sent))
    assert len(sent) >= 3
    [resource] = {frozenset(each.items()) for one in sent for each in resources_of(one)}
    passed = [each.items() for one in backend.requests for each in resources_of(one)]
    assert all(each == resource for each in passed), (passed, resource)


def test_a_client_without_certificate_is_told_so(tmp_path, busy, certificates):
    with (
        HttpReceiver() as backend,
        Collector(tmp_path, backend.url, certificates, wants_client=True) as collector,
        agent(busy, tmp_path, *collector.options("http", certificates, is_client=False)),
    ):
        wait_until(lambda: len(stored(tmp_path)) >= 3, "a third request")

    said = (tmp_path / "said").read_text()
    assert backend.requests == []
    assert 1 <= said.count("WARNING") <= 2  # it closes the connection with an alert, or without
    assert "hint=it may want a certificate of ours: --client-certificate" in said


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_nothing_is_lost_when_the_collector_is_killed_and_started_again(tmp_path, busy, protocol):
    with (
        HttpReceiver() as backend,
        Collector(tmp_path, backend.url) as collector,
        agent(busy, tmp_path, *collector.options(protocol, None, is_client=False)),
    ):
        for _ in range(2):
            seen = len(backend.requests)
            wait_until(lambda: len(backend.requests) >= seen + 2, "two more")  # noqa: B023
            collector.kill()
            kept = len(stored(tmp_path))
            wait_until(lambda: len(stored(tmp_path)) >= kept + 3, "three more")  # noqa: B023
            collector.start()
        wait_until(lambda: len(backend.requests) >= len(stored(tmp_path)), "what waited")

    # What was on its way at a kill may have come twice.
    assert set(times(backend.requests)) == set(times(stored(tmp_path)))
    assert "0 (0 samples) dropped" in (tmp_path / "said").read_text().splitlines()[-1]
