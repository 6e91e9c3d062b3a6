# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Readings to an OTLP request; counters are cumulative since the agent's start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from otelagent.export.dictionary import wire_text
from otelagent.export.otlp_profiles import SCHEMA_URL, SCOPE
from otelagent.metrics import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.metrics import Reading


def encode_metrics(
    readings: Iterable[Reading],
    resource: tuple[tuple[str, str], ...],
    started_unix_ns: int,
    now_unix_ns: int,
) -> bytes:
    """Make the bytes of an `ExportMetricsServiceRequest`."""
    request = service.ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add(schema_url=SCHEMA_URL)
    for key, text in dict(resource).items():
        entry = of_resource.resource.attributes.add(key=wire_text(key))
        entry.value.string_value = wire_text(text)
    of_scope = of_resource.scope_metrics.add(schema_url=SCHEMA_URL)
    of_scope.scope.name = SCOPE
    for reading in readings:
        metric = of_scope.metrics.add(name=reading.name, description=reading.help)
        metric.unit = reading.unit
        points = metric.gauge.data_points
        if reading.kind is Kind.COUNTER:
            metric.sum.is_monotonic = True
            metric.sum.aggregation_temporality = pb.AGGREGATION_TEMPORALITY_CUMULATIVE
            points = metric.sum.data_points
        for labels, value in reading.points:
            point = points.add(start_time_unix_nano=started_unix_ns, time_unix_nano=now_unix_ns)
            if isinstance(value, int):
                point.as_int = value
            else:
                point.as_double = value
            for key, text in labels:
                point.attributes.add(key=key).value.string_value = wire_text(text)
    return request.SerializeToString()
