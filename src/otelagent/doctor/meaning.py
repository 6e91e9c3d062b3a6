# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""For each feature that is probed: how, whether it is needed, and what its absence costs."""

from __future__ import annotations

from dataclasses import dataclass, fields

from otelagent.doctor.report import Feature, Problem, Weight
from otelagent.kernel.features import KernelFeatures, has_feature


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a feature means.

    Attributes:
        weight: Of its absence; None where nothing that is asked for by default is lost.
        hint: The way out.
    """

    how: str
    without: str
    weight: Weight | None = None
    hint: str = ""


_PERF = "CONFIG_PERF_EVENTS; a seccomp filter may deny perf_event_open"
_LATER = "span programs of that kind cannot be attached"
MEANINGS: dict[str, Meaning] = {
    "bpf": Meaning(
        "a map is made",
        "nothing works",
        Weight.FATAL,
        "CONFIG_BPF_SYSCALL; a seccomp filter may deny bpf",
    ),
    "ring_buffer": Meaning("one is made", "nothing works", Weight.FATAL, "Linux 5.8 or newer"),
    "lpm_trie": Meaning("one is made", "nothing works", Weight.FATAL, "Linux 4.11 or newer"),
    "hash_batch": Meaning("a batch is read", "loading a process takes longer"),
    "lpm_batch": Meaning("a batch is read", "loading a process takes longer"),
    "bpf_loop": Meaning(
        "a program is loaded",
        "stacks that change between runtimes more than 30 times are cut",
        Weight.REDUCED,
        "Linux 5.17 (arm64 6.0) or newer",
    ),
    "cpu_clock": Meaning("an event is opened", "nothing works", Weight.FATAL, _PERF),
    "cycles": Meaning("an event is opened", "-e cycles is refused; cpu-clock is used"),
    "sideband": Meaning("events are opened", "nothing works", Weight.FATAL, _PERF),
    "ksymbol": Meaning("asked of an event", "BPF programs in kernel stacks have no names"),
    "raw_tracepoint": Meaning(
        "one is attached",
        "children of a target are sampled from some ms after their start on",
        Weight.REDUCED,
        "a seccomp filter or a security module may deny it",
    ),
    "tracefs": Meaning("its folder, or a mount", "no tracepoint but raw ones"),
    "syscall_tracepoints": Meaning("in tracefs", "one source of offsets less, unused with BTF"),
    "kprobe": Meaning("its event source", _LATER),
    "uprobe": Meaning("its event source", _LATER),
    "btf": Meaning("/sys/kernel/btf", "offsets are searched for; start takes 0.3 s longer"),
    "tp_btf": Meaning("one is attached", _LATER),
    "fentry": Meaning("one is attached", _LATER),
}


def examine_features() -> list[Feature]:
    """Probe everything; some 0.3 s."""
    found = []
    for field in fields(KernelFeatures):
        meaning = MEANINGS[field.name]
        is_needed = meaning.weight is Weight.FATAL
        row = (field.name, has_feature(field.name), is_needed, meaning.how, meaning.without)
        found.append(Feature(*row))
    return found


def find_problems(features: list[Feature]) -> list[Problem]:
    """Tell which absences matter."""
    problems = []
    for feature in features:
        meaning = MEANINGS[feature.name]
        if not feature.is_there and meaning.weight:
            what = f"this kernel has no {feature.name} ({feature.how})"
            problems.append(Problem(what, meaning.without, meaning.hint, meaning.weight))
    return problems
