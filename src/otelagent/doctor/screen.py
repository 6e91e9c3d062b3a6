# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A report as lines for people: one screen."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.doctor.report import Report

WIDTH = 100
_INDENT = " " * 13


def lines(report: Report) -> Iterator[str]:
    """Go through the lines of the screen."""
    kernel = report.kernel
    yield f"otelagent {report.version}: {report.verdict}"
    for problem in report.problems:
        yield from _wrap("  ! ", f"{problem.what}: {problem.lost}", indent=4)
        if problem.hint:
            yield from _wrap("    ", f"→ {problem.hint}", indent=6)
    yield ""
    about = (
        f"Linux {kernel['release']} {kernel['machine']}, CPUs: {kernel['cpus']}; {report.safety}"
    )
    yield from _item("kernel", about)
    yield from _item("BTF", report.btf)
    yield from _item("offsets", _offsets(report))
    for reason in report.sources:
        yield from _item("", f"not from there: {reason}")
    yield from _item("programs", report.load)
    yield from _features(report)
    yield from _item("privileges", _capabilities(report))
    limits = " · ".join(f"{limit.name.rpartition('.')[2]} {limit.value}" for limit in report.limits)
    yield from _item("limits", limits)
    yield from _item("cgroups", report.cgroups)
    yield from _runtimes(report)


def _item(name: str, text: str) -> Iterator[str]:
    yield from _wrap(f"{name:13}", text, indent=len(_INDENT))


def _wrap(first: str, text: str, *, indent: int) -> Iterator[str]:
    yield from textwrap.wrap(first + text, WIDTH, subsequent_indent=" " * indent)


def _offsets(report: Report) -> str:
    if not report.offsets:
        return "not found"
    task = report.offsets[:-1]
    distance = report.offsets[-1]
    values = ", ".join(f"{row.name.removeprefix('task_')} {row.value}" for row in task)
    unseen = [row.name for row in task if not row.again]
    again = next((row.again for row in task if row.again), "")
    seen = f"; seen again by {again}" if again else ""
    but = f", but for {', '.join(unseen)}" if again and unseen else ""
    return (
        f"{values}: {task[0].source}{seen}{but}; user registers +{distance.value:#x}: "
        f"{distance.source}, {distance.again}"
    )


def _features(report: Report) -> Iterator[str]:
    if not report.features:
        yield from _item("features", "not probed: a privilege is missing")
    for at, feature in enumerate(report.features):
        name = "features" if not at else ""
        is_there = "yes" if feature.is_there else "no "
        needed = "needed" if feature.is_needed else "      "
        without = "" if feature.is_there else feature.without
        text = f"{is_there} {feature.name:20}{needed} {feature.how:23}{without}"
        yield from _wrap(f"{name:13}", text, indent=62)


def _capabilities(report: Report) -> str:
    held = [row.name for row in report.capabilities if row.is_held]
    missing = [
        f"{row.name} is missing, {'needed' if row.is_needed else 'good'} {row.purpose}"
        for row in report.capabilities
        if not row.is_held
    ]
    return "; ".join([" ".join(held) or "none", *missing])


def _runtimes(report: Report) -> Iterator[str]:
    for at, row in enumerate(report.runtimes):
        count = f"{row.processes} process{'es' if row.processes != 1 else ''}"
        text = f"{row.name}, {count}: {'' if row.is_unwound else 'not unwound: '}{row.remark}"
        yield from _item("" if at else "runtimes", text)
    if not report.runtimes:
        yield from _item("runtimes", "none are running but native code")
