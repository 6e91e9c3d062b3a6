# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where `agent` sends or keeps what it has: made from the settings."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otelagent import __version__
from otelagent.export.endpoint import GRPC, METRICS, PROFILES, make_tls
from otelagent.kernel import capabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otelagent.config.resolve import Resolved
    from otelagent.config.settings import Settings
    from otelagent.export.backlog import Backlog
    from otelagent.export.endpoint import Endpoint, Signal
    from otelagent.export.exporter import Client, Exporter
    from otelagent.export.store import Store

    Kept = Exporter | Store

DEFAULT_STORE = "/var/lib/otelagent"
METRICS_BYTES = 1 << 20
"""What readings may wait in: each has all that the ones before it had."""


def check_certificates(resolved: Resolved, endpoint: Endpoint) -> None:
    """Refuse certificates that cannot be used, before anything is sampled.

    Raises:
        ConfigError: As it says.
    """
    # One after the other: what is wrong is told with the setting that it is of.
    trusting = replace(endpoint, cert_file="")
    resolved.checked("ca-certificate", lambda: make_tls(trusting))
    if endpoint.cert_file:
        resolved.checked("client-certificate", lambda: make_tls(endpoint))


def make_sinks(settings: Settings, endpoint: Endpoint | None) -> tuple[list[Kept], str]:
    """Open where profiles go, and say it in words.

    Raises:
        AgentError: A directory or a certificate cannot be used.
    """
    sinks: list[Kept] = []
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


def _make_exporter(settings: Settings, endpoint: Endpoint) -> Exporter:
    from otelagent.export.backlog import MemoryBacklog  # noqa: PLC0415

    backlog: Backlog[Any] = MemoryBacklog(settings.queue_bytes)
    if settings.spool:
        from otelagent.export.spool import SpoolBacklog  # noqa: PLC0415

        backlog = SpoolBacklog(settings.spool, settings.spool_bytes)
    return _start(str(endpoint.address), make_client(endpoint, PROFILES), backlog)


def renew_clients(sinks: Sequence[Kept], endpoint: Endpoint) -> None:
    """Let what sends profiles send them by a new client; as `make_client`."""
    from otelagent.export.exporter import Exporter  # noqa: PLC0415

    for sink in sinks:
        if isinstance(sink, Exporter):
            sink.use(make_client(endpoint, PROFILES))


def make_metrics_exporter(endpoint: Endpoint) -> Exporter:
    """Begin to send the agent's own metrics to where profiles go."""
    from otelagent.export.backlog import MemoryBacklog  # noqa: PLC0415

    address = replace(endpoint.address, path=METRICS.beside(endpoint.address.path))
    endpoint = replace(endpoint, address=address)
    name = f"metrics to {address}"
    return _start(name, make_client(endpoint, METRICS), MemoryBacklog(METRICS_BYTES))


def _start(name: str, client: Client, backlog: Backlog[Any]) -> Exporter:
    from otelagent.export.exporter import Exporter  # noqa: PLC0415

    exporter = Exporter(name, client, backlog)
    exporter.start()
    return exporter


def make_client(endpoint: Endpoint, signal: Signal) -> Client:
    """Make what speaks to a receiver.

    Raises:
        ConfigError: A certificate cannot be used, or there is no gRPC.
    """
    name = f"otelagent/{__version__}"
    if endpoint.address.protocol == GRPC:
        from otelagent.export.grpc_client import GrpcClient  # noqa: PLC0415

        return GrpcClient(endpoint, name, signal)
    from otelagent.export.http_client import HttpClient  # noqa: PLC0415

    return HttpClient(endpoint, name)


def drop_capabilities(settings: Settings) -> None:
    """Give up what was needed for the start alone."""
    names = [settings.spool, settings.cache_directory]
    names.append(settings.store or ("" if settings.collection_agent else DEFAULT_STORE))
    is_anothers = any(_owner_of(Path(name)) != os.geteuid() for name in names if name)
    wants_admin = capabilities.may_want_admin()
    have = capabilities.held()
    capabilities.keep(
        capabilities.still_needed(have, writes_to_others=is_anothers, wants_admin=wants_admin)
    )


def _owner_of(path: Path) -> int:
    """Tell whose a directory is, or the one that it would be made in."""
    for each in (path, *path.absolute().parents):
        if each.exists():
            return each.stat().st_uid
    return 0
