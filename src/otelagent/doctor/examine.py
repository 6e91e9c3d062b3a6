# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Try everything that `record` would need, and note what comes of it."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING

from otelagent import __version__
from otelagent.bpf.object import possible_cpus
from otelagent.doctor import limits, meaning
from otelagent.doctor.report import Capability, Offset, Problem, Report, Weight
from otelagent.doctor.runtimes import examine_runtimes
from otelagent.errors import KernelError, NotPermitted
from otelagent.interpreters.registry import FAMILIES
from otelagent.kernel import capabilities, nofault
from otelagent.kernel.features import has_feature
from otelagent.kernel.offsets import KernelOffsets, find_offsets
from otelagent.kernel.plan import Plan, Wish, load, load_unwinder

if TYPE_CHECKING:
    from pathlib import Path

_MEASURED = "perf event on a thread of our own"
_NOTHING = "nothing can be sampled"


def examine(btf_path: Path | None = None) -> Report:
    """Examine this machine; loads programs for some moments, samples nothing, changes nothing.

    To be called on the process's first thread.
    """
    problems: list[Problem] = []
    listed = _capabilities(capabilities.held(), problems)
    may_probe = not any(problem.weight is Weight.NOT_PERMITTED for problem in problems)
    features = meaning.examine_features() if may_probe else []
    safety = _safety(problems) if may_probe else "not looked at"
    offsets = _offsets(btf_path, problems) if may_probe else None
    loaded = _load(offsets, problems) if offsets else "not tried"
    is_refused = any(problem.weight is Weight.NOT_PERMITTED for problem in problems)
    problems += meaning.find_problems(features, is_refused=is_refused)
    settings = limits.examine_limits()
    problems += limits.find_problems(settings)
    return Report(
        version=__version__,
        kernel=_kernel(),
        safety=safety,
        btf=offsets.source if offsets and "BTF" in offsets.source else "none",
        offsets=_rows(offsets) if offsets else [],
        sources=list(offsets.passed_over) if offsets else [],
        load=loaded,
        features=features,
        capabilities=listed,
        limits=settings,
        cgroups=limits.examine_cgroups(),
        runtimes=examine_runtimes(),
        problems=problems,
    )


def _kernel() -> dict[str, str]:
    name = os.uname()
    return {
        "release": name.release,
        "build": name.version,
        "machine": name.machine,
        "cpus": f"{os.cpu_count()} online, {possible_cpus()} possible",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
    }


def _capabilities(held: int, problems: list[Problem]) -> list[Capability]:
    rows = []
    for name, purpose, is_held, is_needed in capabilities.describe(held):
        rows.append(Capability(name, is_held, is_needed, purpose))
        if not is_held and (is_needed or name in capabilities.GOOD):
            what, hint = f"{name} is missing", capabilities.how_to_grant([name])
            weight = Weight.NOT_PERMITTED if is_needed else Weight.REDUCED
            problems.append(Problem(what, f"it is needed {purpose}", hint, weight))
    return rows


def _safety(problems: list[Problem]) -> str:
    kernel = nofault.running_kernel()
    found = nofault.parse_version(kernel)
    try:
        nofault.require_safe_reads(kernel)
    except KernelError as err:
        problems.append(Problem(str(err), "record and top refuse to start", err.hint, Weight.FATAL))
        return "refused"
    known = "by its code" if nofault.is_affected(found) else "by its version"
    return f"safe to profile, {known}"


def _offsets(btf_path: Path | None, problems: list[Problem]) -> KernelOffsets | None:
    try:
        return find_offsets(btf_path)
    except KernelError as err:
        problems.append(_refusal(err))
        return None


def _refusal(err: KernelError) -> Problem:
    is_denied = isinstance(err, NotPermitted)
    weight = Weight.NOT_PERMITTED if is_denied else Weight.FATAL
    return Problem(str(err), _NOTHING, err.hint, weight)


def _rows(offsets: KernelOffsets) -> list[Offset]:
    rows = [
        Offset(name, value, offsets.source, "" if name in offsets.unseen else offsets.again)
        for name, value in offsets.task.by_name().items()
    ]
    distance = ("user_regs_distance", offsets.user_regs_distance)
    return [*rows, Offset(*distance, _MEASURED, f"{offsets.ticks} ticks")]


def _load(offsets: KernelOffsets, problems: list[Problem]) -> str:
    began = time.monotonic()
    wish = Wish(frequency_hz=99, everything=True, max_frames=1024)
    plan = Plan(wish, offsets, has_feature("bpf_loop"))
    try:
        bpf = load(plan)
    except KernelError as err:
        problems.append(_refusal(err))
        return "refused by the kernel"
    with bpf:
        for family in FAMILIES:
            try:
                load_unwinder(plan, family.unwinder, bpf).close()
            except KernelError as err:
                lost = f"no frames of {family.name}; its native frames are there"
                problems.append(Problem(str(err), lost, err.hint, Weight.REDUCED))
    return f"loaded in {1000 * (time.monotonic() - began):.0f} ms"
