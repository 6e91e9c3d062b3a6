# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""For each feature that is probed: how, whether it is needed, and what its absence costs."""

from __future__ import annotations

import platform
from dataclasses import dataclass, fields

from otelagent.bpf.reasons import read_status
from otelagent.doctor.report import Feature, Problem, Weight
from otelagent.formats.proc_status import has_seccomp_filter
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


_IS_ARM = platform.machine() == "aarch64"
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
        f"stacks are walked by tail calls{', at most 480 frames' * _IS_ARM}",
        Weight.REDUCED if _IS_ARM else None,
        "Linux 6.0 or newer" if _IS_ARM else "",
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

_CALLS = {"bpf": "bpf", "cpu_clock": "perf_event_open"}
_NEEDS = {
    **dict.fromkeys(("ring_buffer", "lpm_trie", "bpf_loop", "raw_tracepoint"), "bpf"),
    "sideband": "cpu_clock",
}
"""What cannot be there without another feature, so that its absence tells nothing more."""


def examine_features() -> list[Feature]:
    """Probe everything; some 0.3 s."""
    found = []
    for field in fields(KernelFeatures):
        meaning = MEANINGS[field.name]
        is_needed = meaning.weight is Weight.FATAL
        row = (field.name, has_feature(field.name), is_needed, meaning.how, meaning.without)
        found.append(Feature(*row))
    return found


def find_problems(
    features: list[Feature], status: str | None = None, *, is_refused: bool = False
) -> list[Problem]:
    """Tell which absences matter, each cause once.

    What needs a feature that is absent is not told of. Under a seccomp filter the kernel may well
    have what is refused.

    Args:
        features: As they were probed.
        status: Ours of /proc, if not the real one.
        is_refused: BPF was refused for want of a privilege or a limit, which is told elsewhere.
    """
    absent = {feature.name for feature in features if not feature.is_there}
    is_filtered = has_seccomp_filter(read_status() if status is None else status)
    problems = []
    for feature in features:
        meaning = MEANINGS[feature.name]
        needs = _NEEDS.get(feature.name)
        if feature.is_there or not meaning.weight or needs in absent:
            continue
        if is_refused and needs == "bpf":
            continue
        call = _CALLS.get(feature.name) if is_filtered else None
        what = f"this kernel has no {feature.name} ({feature.how})"
        hint = meaning.hint
        if call:
            what = f"{call} fails, and a seccomp filter applies, which may deny it"
            hint = "allow it (containers: --security-opt seccomp=unconfined)"
        problems.append(Problem(what, meaning.without, hint, meaning.weight))
    return problems
