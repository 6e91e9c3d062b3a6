# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Readings as OTLP metrics: cumulative sums and gauges, and where they are sent."""

import random

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from otelagent.cli.agentsinks import make_metrics_exporter
from otelagent.export.backlog import MemoryBacklog
from otelagent.export.endpoint import METRICS, Endpoint, parse_address
from otelagent.export.exporter import Exporter
from otelagent.export.otlp_metrics import encode_metrics
from otelagent.health.sender import MetricsSender
from otelagent.metrics import Kind, Reading
from tests.export.receivers import HttpReceiver

READINGS = [
    Reading("a.count", "how many", Kind.COUNTER, "{x}", (((("k", "v"),), 3), ((), 4))),
    Reading("a.level", "how full", Kind.GAUGE, "By", (((), 0.5),)),
]


def test_counters_are_cumulative_sums_and_the_rest_gauges():
    data = encode_metrics(READINGS, (("host.name", "h"),), 100, 200)

    [resource] = service.ExportMetricsServiceRequest.FromString(data).resource_metrics
    count, level = resource.scope_metrics[0].metrics
    assert resource.resource.attributes[0].value.string_value == "h"
    assert (count.name, count.description, count.unit) == ("a.count", "how many", "{x}")
    assert count.sum.is_monotonic
    assert count.sum.aggregation_temporality == pb.AGGREGATION_TEMPORALITY_CUMULATIVE
    first, second = count.sum.data_points
    assert (first.as_int, first.attributes[0].key, second.as_int) == (3, "k", 4)
    assert (first.start_time_unix_nano, first.time_unix_nano) == (100, 200)
    assert level.gauge.data_points[0].as_double == 0.5


@pytest.mark.parametrize(
    ("profiles", "metrics"),
    [
        ("/v1development/profiles", "/v1/metrics"),
        ("/tenant/v1development/profiles", "/tenant/v1/metrics"),
        ("/own", "/v1/metrics"),
    ],
)
def test_metrics_go_beside_profiles(profiles, metrics):
    assert METRICS.beside(profiles) == metrics


def test_the_receiver_of_profiles_gets_them():
    with HttpReceiver() as receiver:
        exporter = make_metrics_exporter(Endpoint(parse_address(receiver.url)))
        sender = MetricsSender(lambda: READINGS, exporter, 5.0, ())

        said = sender.close(5)

    [request] = receiver.metrics
    assert [m.name for m in request.resource_metrics[0].scope_metrics[0].metrics] == [
        "a.count",
        "a.level",
    ]
    assert "1 (0 samples) attempted = 1 (0 samples) delivered" in said


def test_they_are_sent_when_they_are_due():
    class Silent:
        def close(self):
            pass

    now = [0.0]
    exporter = Exporter("x", Silent(), MemoryBacklog(1 << 20), random.Random(1))
    sender = MetricsSender(lambda: READINGS, exporter, 5.0, (), lambda: now[0])
    for now[0] in (0.0, 4.9, 5.0, 5.1, 9.9, 10.0):
        sender.work()

    assert (exporter.account.attempted.requests, sender.due) == (2, 15.0)
