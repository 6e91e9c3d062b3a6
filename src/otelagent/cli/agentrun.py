# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `agent` does: build sinks, sample until a signal comes, report, tell what became of all."""

from __future__ import annotations

import gc
import sys
import time
import uuid
from typing import TYPE_CHECKING

from otelagent.agent import Agent, Plan
from otelagent.bpf.known import KnownTraces
from otelagent.chance import new_random
from otelagent.cli.agenthealth import AgentHealth
from otelagent.cli.agentsinks import check_certificates, make_sinks
from otelagent.cli.request import Request, intention
from otelagent.cli.session import Session
from otelagent.cli.talk import Talk
from otelagent.config.resolve import attributes_of, endpoint_of
from otelagent.host.machine import machine_attributes
from otelagent.kernel import capabilities, namespace

if TYPE_CHECKING:
    from otelagent.config.resolve import Resolved

IDLE_SECONDS = 1.0
LAST_SECONDS = 0.5
"""For the last metrics, where profiles took all of the time that there was."""


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
    health = AgentHealth(resolved, endpoint)
    with Session(request, talk) as session:
        sinks, where = make_sinks(settings, endpoint)
        known = KnownTraces.of(*session.profiler.objects)
        plan = make_plan(resolved)
        agent = Agent(session.profiler, sinks, plan, new_random(), known)
        health.begin(session.profiler, sinks, known, plan.resource)
        gc.freeze()
        purpose = "ends it after a last report"
        talk.say(intention(request, session.seconds, purpose))
        talk.say(f"each {settings.reporter_interval:g} s: {where}")
        session.release()
        while not session.wait(_idle_s(agent.due, health.due)):
            agent.work()
            health.work()
        health.say_end()
        failure = session.stop()
        with talk.patience("sending what is left"):
            agent.report()
            deadline = time.monotonic() + settings.shutdown_timeout
            for line in agent.close(float(settings.shutdown_timeout)):
                talk.say(line)
            for line in health.close(max(deadline - time.monotonic(), LAST_SECONDS)):
                talk.say(line)
        known.close()
        session.profiler.close()
    if failure is not None:
        raise failure
    sys.exit(session.status)


def _idle_s(*due: float) -> float:
    return min(max(min(due) - time.monotonic(), 0.0), IDLE_SECONDS)


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
