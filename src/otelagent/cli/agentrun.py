# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `agent` does: build sinks, sample until a signal comes, report, tell what became of all."""

from __future__ import annotations

import gc
import sys
import time
import uuid
from importlib.metadata import version
from typing import TYPE_CHECKING

from otelagent.agent import Agent, Plan
from otelagent.bpf.known import KnownTraces
from otelagent.chance import new_random
from otelagent.cli.request import Request, intention
from otelagent.cli.session import Session
from otelagent.cli.talk import Talk
from otelagent.config.resolve import attributes_of, endpoint_of
from otelagent.export.endpoint import make_tls
from otelagent.host.machine import machine_attributes
from otelagent.kernel import capabilities, namespace

if TYPE_CHECKING:
    from otelagent.agent import Sink
    from otelagent.config.resolve import Resolved
    from otelagent.config.settings import Settings
    from otelagent.export.endpoint import Endpoint
    from otelagent.export.exporter import Client

DEFAULT_STORE = "/var/lib/otelagent"
IDLE_SECONDS = 1.0


def run(request: Request, resolved: Resolved) -> None:
    """Sample and report until something ends it, and exit with the right status.

    Raises:
        AgentError: As it says.
    """
    request.check()
    settings = resolved.settings
    endpoint = endpoint_of(resolved)
    if endpoint and endpoint.address.tls:
        check_certificates(resolved, endpoint)
    talk = Talk(quiet=request.quiet)
    capabilities.require()
    namespace.require_first()
    with Session(request, talk) as session:
        sinks, where = make_sinks(settings, endpoint)
        known = KnownTraces.of(session.profiler.bpf)
        agent = Agent(session.profiler, sinks, make_plan(resolved), new_random(), known)
        gc.freeze()
        purpose = "ends it after a last report"
        talk.say(intention(request, session.seconds, purpose))
        talk.say(f"each {settings.reporter_interval:g} s: {where}")
        session.release()
        while not session.wait(min(max(agent.due - time.monotonic(), 0), IDLE_SECONDS)):
            agent.work()
        failure = session.stop()
        with talk.patience("sending what is left"):
            agent.report()
            for line in agent.close(float(settings.shutdown_timeout)):
                talk.say(line)
        known.close()
        session.profiler.close()
    if failure is not None:
        raise failure
    sys.exit(session.status)


def check_certificates(resolved: Resolved, endpoint: Endpoint) -> None:
    """Refuse certificates that cannot be used, before anything is sampled.

    Raises:
        ConfigError: As it says.
    """
    given = {"client-certificate": endpoint.cert_file, "ca-certificate": endpoint.ca_file}
    key = next((key for key, name in given.items() if name), "ca-certificate")
    resolved.checked(key, lambda: make_tls(endpoint))


def make_plan(resolved: Resolved) -> Plan:
    """Say how often the agent does what."""
    settings = resolved.settings
    resource = dict(machine_attributes()) | {"service.instance.id": str(uuid.uuid4())}
    if settings.service_name:
        resource["service.name"] = settings.service_name
    return Plan(
        interval_s=settings.reporter_interval,
        jitter=settings.reporter_jitter,
        threshold=settings.probabilistic_threshold,
        lot_interval_s=settings.probabilistic_interval,
        timestamps=settings.timestamps,
        variables=tuple(filter(None, map(str.strip, settings.env_vars.split(",")))),
        resource=tuple((resource | dict(attributes_of(resolved))).items()),
    )


def make_sinks(settings: Settings, endpoint: Endpoint | None) -> tuple[list[Sink], str]:
    """Open where profiles go, and say it in words.

    Raises:
        AgentError: A directory or a certificate cannot be used.
    """
    sinks: list[Sink] = []
    places = []
    store = settings.store or ("" if endpoint else DEFAULT_STORE)
    if store:
        from otelagent.export.store import Store  # noqa: PLC0415 (only what is used is imported)

        age_ns = int(settings.store_age * 1e9)
        sinks.append(Store(store, settings.store_bytes, age_ns))
        places.append(f"kept in {store}")
    if endpoint:
        sinks.append(_make_exporter(settings, endpoint))
        places.append(f"sent to {endpoint.address}")
    return sinks, " and ".join(places)


def _make_exporter(settings: Settings, endpoint: Endpoint) -> Sink:
    from otelagent.export.backlog import Backlog, MemoryBacklog  # noqa: PLC0415
    from otelagent.export.exporter import Exporter  # noqa: PLC0415

    client = _make_client(endpoint)
    backlog: Backlog = MemoryBacklog(settings.queue_bytes)
    if settings.spool:
        from otelagent.export.spool import SpoolBacklog  # noqa: PLC0415

        backlog = SpoolBacklog(settings.spool, settings.spool_bytes)
    exporter = Exporter(str(endpoint.address), client, backlog)
    exporter.start()
    return exporter


def _make_client(endpoint: Endpoint) -> Client:
    from otelagent.export.endpoint import GRPC  # noqa: PLC0415

    name = f"otelagent/{version('otelagent')}"
    if endpoint.address.protocol == GRPC:
        from otelagent.export.grpc_client import GrpcClient  # noqa: PLC0415

        return GrpcClient(endpoint, name)
    from otelagent.export.http_client import HttpClient  # noqa: PLC0415

    return HttpClient(endpoint, name)
