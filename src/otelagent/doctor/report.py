# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an examination found, as plain values that become JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """Whether profiling works here."""

    WORKS = "works"
    REDUCED = "works, reduced"
    NOT_PERMITTED = "not permitted"
    CANNOT = "cannot work"


class Weight(StrEnum):
    """What a problem means."""

    REDUCED = "reduced"
    NOT_PERMITTED = "not permitted"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is missing: what, what is lost by it, and the way out."""

    what: str
    lost: str
    hint: str
    weight: Weight


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that was probed: `how`, and what it costs if it is not there (`without`)."""

    name: str
    is_there: bool
    is_needed: bool
    how: str
    without: str


@dataclass(frozen=True, slots=True)
class Capability:
    """A capability, and what it is for."""

    name: str
    is_held: bool
    is_needed: bool
    purpose: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A setting of the kernel or of this process, and what it means here."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Offset:
    """A place in kernel memory, where it was found, and where it was seen again."""

    name: str
    value: int
    source: str
    again: str


@dataclass(frozen=True, slots=True)
class RuntimeFound:
    """A runtime with processes on this machine."""

    name: str
    processes: int
    is_unwound: bool
    remark: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything.

    Attributes:
        safety: Whether the kernel can freeze, and how that is known.
        sources: Sources of offsets that gave nothing, each with its reason.
        load: How long the profiler's programs took to load, or why they did not.
    """

    version: str
    kernel: dict[str, str]
    safety: str
    btf: str
    offsets: list[Offset]
    sources: list[str]
    load: str
    features: list[Feature]
    capabilities: list[Capability]
    limits: list[Limit]
    cgroups: str
    runtimes: list[RuntimeFound]
    problems: list[Problem] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst of the problems."""
        weights = {problem.weight for problem in self.problems}
        if Weight.NOT_PERMITTED in weights:
            return Verdict.NOT_PERMITTED
        if Weight.FATAL in weights:
            return Verdict.CANNOT
        return Verdict.REDUCED if weights else Verdict.WORKS
