# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What tells how an agent is, and keeps it well: made from the settings, as far as they ask."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from otelagent.cli.agentsinks import make_metrics_exporter
from otelagent.errors import ConfigError
from otelagent.health.gatherer import Gatherer
from otelagent.health.limiter import CpuLimiter
from otelagent.health.usage import read_cpu
from otelagent.host.pages import Residence
from otelagent.host.service import ALIVE, READY, STOPPING, ServiceManager, reloading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otelagent.agent import Agent
    from otelagent.bpf.known import KnownTraces
    from otelagent.bpf.statistics import RunTimes
    from otelagent.cli.agentsinks import Kept
    from otelagent.config.resolve import Resolved
    from otelagent.config.settings import Settings
    from otelagent.export.endpoint import Endpoint
    from otelagent.health.sender import MetricsSender
    from otelagent.health.server import HealthServer
    from otelagent.profiler import Profiler


class AgentHealth:
    """Metrics, limits and signs of life; binds the server's port at once.

    Attributes:
        shutdown_s: How long the end may take.

    Raises:
        AgentError: Its address is wrong or cannot be listened on, or there is no receiver.
    """

    _gatherer: Gatherer
    _limiter: CpuLimiter

    def __init__(self, resolved: Resolved, endpoint: Endpoint | None) -> None:
        self._settings = resolved.settings
        self.shutdown_s = float(resolved.settings.shutdown_timeout)
        self._endpoint = endpoint
        self._service = ServiceManager(os.environ)
        self._alive_at = 0.0
        self._residence = Residence()
        self._times: RunTimes | None = None
        self._server: HealthServer | None = None
        self._sender: MetricsSender | None = None
        if listen := self._settings.metrics_listen:
            from otelagent.health.server import HealthServer, parse_listen  # noqa: PLC0415

            address = resolved.checked("metrics-listen", lambda: parse_listen(listen))
            self._server = HealthServer(*address)
        if self._settings.send_metrics and not endpoint:
            resolved.checked("send-metrics", _refuse_to_send)

    def prepare(self) -> None:
        """Do what takes capabilities: let the kernel measure programs if anybody asks."""
        if self._server or self._settings.send_metrics or self._settings.max_cpu:
            from otelagent.bpf.statistics import try_to_measure  # noqa: PLC0415

            self._times = try_to_measure()

    def begin(
        self, profiler: Profiler, sinks: Sequence[Kept], known: KnownTraces, agent: Agent
    ) -> None:
        """Answer, send and watch from now on."""
        settings = self._settings
        gatherer = self._gatherer = Gatherer(profiler, sinks, known)
        if self._times:
            self._times.watch(profiler.bpf)
            gatherer.times = self._times
        if self._server:
            self._server.start(gatherer.gather, gatherer.illness, lambda: gatherer.is_ready)
        if self._endpoint and settings.send_metrics:
            from otelagent.health.sender import MetricsSender  # noqa: PLC0415

            exporter = make_metrics_exporter(self._endpoint)
            interval_s, resource = settings.monitor_interval, agent.plan.resource
            self._sender = MetricsSender(gatherer.gather, exporter, interval_s, resource)
        self._limiter = CpuLimiter(
            settings.max_cpu, settings.samples_per_second, agent.set_frequency, self._cpu_s
        )

    def _cpu_s(self) -> float:
        return sum(read_cpu()) + (self._times.total_ns() / 1e9 if self._times else 0.0)

    def say_ready(self) -> None:
        """Say that sampling has begun."""
        self._gatherer.is_ready = True
        self._service.tell(READY)

    def reload(self, do: Callable[[], None]) -> None:
        """Say that the settings are being read again, while they are."""
        self._service.tell(*reloading())
        do()
        self._service.tell(READY)

    def follow(self, settings: Settings) -> None:
        """Let other settings hold."""
        self.shutdown_s = float(settings.shutdown_timeout)
        self._limiter.aim(settings.max_cpu, settings.samples_per_second)
        if self._sender:
            self._sender.interval_s = settings.monitor_interval

    @property
    def due(self) -> float:
        """When there is something to do next."""
        return min(self._limiter.due, self._sender.due if self._sender else float("inf"))

    def work(self) -> None:
        """Do what is due; to be called each second in any case, as a sign of life."""
        self._gatherer.beat()
        self._residence.work()
        self._limiter.work()
        if self._sender:
            self._sender.work()
        watchdog_s, now = self._service.watchdog_s, time.monotonic()
        if watchdog_s and now >= self._alive_at and not self._gatherer.illness():
            self._alive_at = now + watchdog_s / 3
            self._service.tell(ALIVE)

    def say_end(self) -> None:
        """Say that sampling is over."""
        self._gatherer.is_ready = False
        self._service.tell(STOPPING)

    def close(self, seconds: float) -> list[str]:
        """Send the last readings, and stop answering; tells what became of what was sent."""
        said = [self._sender.close(seconds)] if self._sender else []
        if self._server:
            self._server.close()
        if self._times:
            self._times.close()
        return said


def _refuse_to_send() -> None:
    raise ConfigError("there is no receiver to send to", hint="name one: --collection-agent")
