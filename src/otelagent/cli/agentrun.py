# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `agent` does: build sinks, sample until a signal comes, report, tell what became of all."""

from __future__ import annotations

import gc
import os
import sys
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from otelagent.agent import Agent
from otelagent.agentplan import Plan
from otelagent.bpf.known import KnownTraces
from otelagent.chance import new_random
from otelagent.cli.agenthealth import AgentHealth
from otelagent.cli.agentreload import CLIENT, AgentSession, Reloader
from otelagent.cli.agentsinks import (
    check_certificates,
    drop_capabilities,
    make_sinks,
    renew_clients,
)
from otelagent.cli.haste import Haste
from otelagent.cli.request import Request, intention
from otelagent.cli.talk import Talk
from otelagent.config.resolve import attributes_of, endpoint_of, variables_of
from otelagent.host.machine import machine_attributes
from otelagent.kernel import capabilities, namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otelagent.cli.agentsinks import Kept
    from otelagent.config.resolve import Resolved
    from otelagent.export.endpoint import Endpoint

IDLE_SECONDS = 1.0
GC_THRESHOLDS = (20_000, 20, 20)
"""What a report is made of has no cycles: Python need not look for any after each 700 objects."""
LAST_SECONDS = 0.5
"""For the last metrics, where profiles took all of the time that there was."""


def run(request: Request, resolved: Resolved, read: Callable[[], Resolved]) -> None:
    """Sample and report until something ends it, and exit with the right status.

    Args:
        request: What to sample.
        resolved: The settings.
        read: Reads them again.

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
    health = AgentHealth(resolved, endpoint)

    def on_loaded() -> None:
        health.prepare()
        drop_capabilities(settings)

    request = replace(request, base=replace(request.base, on_loaded=on_loaded))
    with AgentSession(request, talk) as session:
        sinks, where = make_sinks(settings, endpoint)
        known = KnownTraces.of(*session.profiler.objects)
        agent = Agent(session.profiler, sinks, make_plan(resolved), new_random(), known)
        health.begin(session.profiler, sinks, known, agent)
        reloader = Reloader(resolved, read, partial(_apply, endpoint, sinks, agent, health))
        session.on_hangup = lambda: health.reload(reloader.reload)
        haste = Haste(health.shutdown_s)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        purpose = "ends it after a last report"
        stop = "SIGTERM" if "NOTIFY_SOCKET" in os.environ else "Ctrl-C"  # nobody types to a service
        talk.say(intention(request, session.seconds, purpose, stop))
        talk.say(f"each {settings.reporter_interval:g} s: {where}")
        session.release()
        health.say_ready()
        while not session.wait(_idle_s(agent.due, health.due)):
            agent.work()
            health.work()
        health.say_end()
        haste.begin()
        failure = session.stop()
        with talk.patience("sending what is left"):
            agent.finish()
            _close(agent, health, health.shutdown_s, talk)
        known.close()
        session.profiler.close()
    if failure is not None:
        raise failure
    sys.exit(session.status)


def _apply(
    endpoint: Endpoint | None,
    sinks: Sequence[Kept],
    agent: Agent,
    health: AgentHealth,
    fresh: Resolved,
    changed: set[str],
) -> None:
    renewed = endpoint_of(fresh)
    if endpoint and renewed and (endpoint.address.tls or changed & CLIENT):
        # Certificates may be others though the names of their files are not.
        renew_clients(sinks, replace(renewed, address=endpoint.address))
    agent.follow(make_plan(fresh, agent.plan.instance_id))
    health.follow(fresh.settings)


def _close(agent: Agent, health: AgentHealth, seconds: float, talk: Talk) -> None:
    deadline = time.monotonic() + seconds
    for line in agent.close(seconds):
        talk.say(line)
    for line in health.close(max(deadline - time.monotonic(), LAST_SECONDS)):
        talk.say(line)


def _idle_s(*due: float) -> float:
    return min(max(min(due) - time.monotonic(), 0.0), IDLE_SECONDS)


def make_plan(resolved: Resolved, instance_id: str = "") -> Plan:
    """Say how often the agent does what; `instance_id` is what it is known by already."""
    settings = resolved.settings
    resource = dict(machine_attributes())
    resource["service.instance.id"] = instance_id or str(uuid.uuid4())
    if settings.service_name:
        resource["service.name"] = settings.service_name
    return Plan(
        interval_s=settings.reporter_interval,
        jitter=settings.reporter_jitter,
        threshold=settings.probabilistic_threshold,
        lot_interval_s=settings.probabilistic_interval,
        timestamps=settings.timestamps,
        variables=variables_of(resolved),
        resource=tuple((resource | dict(attributes_of(resolved))).items()),
    )
