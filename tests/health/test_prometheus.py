# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Prometheus text: its own client reads what we write."""

import pytest

from otelagent.abi._generated import Limit
from otelagent.health.prometheus import metric_name, write_text
from otelagent.metrics import Kind, Reading

parser = pytest.importorskip(
    "prometheus_client.parser", reason="prometheus_client is not installed: make installs it"
)


def reading(name="otelagent.things", kind=Kind.COUNTER, unit="{thing}", points=(((), 1),)):
    return Reading(name, "things", kind, unit, tuple(points))


@pytest.mark.parametrize(
    ("kind", "unit", "name"),
    [
        (Kind.COUNTER, "s", "otelagent_things_seconds_total"),
        (Kind.GAUGE, "By", "otelagent_things_bytes"),
        (Kind.GAUGE, "1", "otelagent_things_ratio"),
        (Kind.COUNTER, "{thing}", "otelagent_things_total"),
    ],
)
def test_names_are_changed_as_opentelemetry_says(kind, unit, name):
    assert metric_name(reading(kind=kind, unit=unit)) == name


def test_a_unit_is_not_named_twice():
    assert metric_name(reading("x.size_bytes", Kind.GAUGE, "By")) == "x_size_bytes"


def test_the_official_client_reads_every_value_and_label():
    nasty = 'a "quoted" \\ path\nand a line'
    points = [((("sink", nasty), ("cpu.mode", "user")), 2**53 + 1), ((), 0.1)]

    [family] = parser.text_string_to_metric_families(write_text([reading(points=points)]))

    assert (family.type, family.documentation) == ("counter", "things")
    assert [(s.labels, s.value) for s in family.samples] == [
        ({"sink": nasty, "cpu_mode": "user"}, 2**53 + 1),
        ({}, 0.1),
    ]


def test_whole_numbers_lose_no_digit():
    assert write_text([reading(points=[((), 2**63 - 1)])]).endswith(f" {2**63 - 1}\n")
    assert write_text([reading(points=[((), Limit.MAX_CHUNKS)])]).endswith(" 256\n")
