# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Nothing is declared for the border or counted by name that no code uses."""

import re

import build
from otelagent import metrics
from tests.house.tracked import ROOT, tracked

HEADER = "ebpf/oa_abi.h"


def words(*patterns: str) -> set[str]:
    """Collect names, also `Enum.MEMBER`, in the given files; the border's own header says none."""
    found = set()
    for path in tracked(*patterns):
        if str(path) != HEADER:
            found |= set(re.findall(r"\w+(?:\.\w+)?", (ROOT / path).read_text()))
    return found


def test_every_enumerator_of_the_border_is_used():
    """A fault or counter that nothing sets would be shown to users as one that never happens."""
    enums = build.read_enums((ROOT / HEADER).read_text())
    used = words("ebpf/*.c", "ebpf/*.h", "src/*.c", "src/*.h", "src/*.py")

    unused = [
        name
        for enum, members in enums.items()
        for name, _value, _text in members
        if not {name, f"{build.class_name(enum)}.{build.member_name(enum, name)}"} & used
        and not name.endswith("_COUNT")
    ]

    assert unused == []


def test_faults_and_counters_are_set_by_the_kernel_side():
    enums = build.read_enums((ROOT / HEADER).read_text())
    used = words("ebpf/*.c", "ebpf/*.h")

    names = [name for enum in ("oa_fault", "oa_counter") for name, _, _ in enums[enum]]

    assert [name for name in names if name not in used and not name.endswith("_COUNT")] == []


def test_every_metric_is_increased_somewhere():
    source = "\n".join((ROOT / path).read_text() for path in tracked("src/*.py"))
    metric_names = {
        name for name, value in vars(metrics).items() if isinstance(value, metrics.Counter)
    }

    assert len(metric_names) == len(metrics.ALL)
    assert [name for name in metric_names if f"metrics.{name}.add(" not in source] == []


def test_metrics_are_named_by_area_and_noun():
    pattern = re.compile(r"otelagent\.[a-z]+\.[a-z_]+")

    assert [name for name in metrics.ALL if not pattern.fullmatch(name)] == []
    assert [counter.name for counter in metrics.ALL.values() if not counter.help] == []
