# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What tells how an agent is: made from the settings, and only what they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.cli.agentsinks import make_metrics_exporter
from otelagent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otelagent.bpf.known import KnownTraces
    from otelagent.cli.agentsinks import Kept
    from otelagent.config.resolve import Resolved
    from otelagent.export.endpoint import Endpoint
    from otelagent.health.gatherer import Gatherer
    from otelagent.health.sender import MetricsSender
    from otelagent.health.server import HealthServer
    from otelagent.profiler import Profiler


class AgentHealth:
    """Server and sender of the agent's own metrics; binds the server's port at once.

    Raises:
        AgentError: Its address is wrong or cannot be listened on, or there is no receiver.
    """

    def __init__(self, resolved: Resolved, endpoint: Endpoint | None) -> None:
        self._settings = resolved.settings
        self._endpoint = endpoint
        self._gatherer: Gatherer | None = None
        self._server: HealthServer | None = None
        self._sender: MetricsSender | None = None
        if listen := self._settings.metrics_listen:
            from otelagent.health.server import HealthServer, parse_listen  # noqa: PLC0415

            address = resolved.checked("metrics-listen", lambda: parse_listen(listen))
            self._server = HealthServer(*address)
        if self._settings.send_metrics and not endpoint:
            resolved.checked("send-metrics", _refuse_to_send)

    def begin(
        self,
        profiler: Profiler,
        sinks: Sequence[Kept],
        known: KnownTraces,
        resource: tuple[tuple[str, str], ...],
    ) -> None:
        """Answer and send from now on."""
        if not self._server and not self._settings.send_metrics:
            return
        from otelagent.health.gatherer import Gatherer  # noqa: PLC0415 (only if asked for)

        gatherer = self._gatherer = Gatherer(profiler, sinks, known)
        gatherer.measure_bpf()
        gatherer.is_ready = True
        if self._server:
            self._server.start(gatherer.gather, gatherer.illness, lambda: gatherer.is_ready)
        if self._endpoint and self._settings.send_metrics:
            from otelagent.health.sender import MetricsSender  # noqa: PLC0415

            exporter = make_metrics_exporter(self._endpoint)
            interval_s = self._settings.monitor_interval
            self._sender = MetricsSender(gatherer.gather, exporter, interval_s, resource)

    @property
    def due(self) -> float:
        """When there is something to do next."""
        return self._sender.due if self._sender else float("inf")

    def work(self) -> None:
        """Do what is due; to be called now and then in any case, as a sign of life."""
        if self._gatherer:
            self._gatherer.beat()
        if self._sender:
            self._sender.work()

    def say_end(self) -> None:
        """Say that sampling is over."""
        if self._gatherer:
            self._gatherer.is_ready = False

    def close(self, seconds: float) -> list[str]:
        """Send the last readings, and stop answering; tells what became of what was sent."""
        said = [self._sender.close(seconds)] if self._sender else []
        if self._server:
            self._server.close()
        if self._gatherer:
            self._gatherer.close()
        return said


def _refuse_to_send() -> None:
    raise ConfigError("there is no receiver to send to", hint="name one: --collection-agent")
