# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the running kernel keeps what the BPF programs read of a thread.

The profiler's object has no relocations; these offsets go into its `config`
before it is loaded. Sources, the first that answers wins: a BTF file that was
given, the kernel's own BTF, a BTF file at a well-known place, a search in the
task_structs of threads of ours. Each value is seen twice: what BTF says must be
what our own thread shows, and two searches must agree. The distance to the
user's registers, which BTF does not hold, is measured on every kernel.
"""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.bpf.btf import VMLINUX, Btf, find_btf_files
from otelagent.errors import KernelError, MissingFeature
from otelagent.kernel.calibration import find_regs_distance, read_ticks
from otelagent.kernel.known import find_contradictions, look_here
from otelagent.log import fields

if TYPE_CHECKING:
    from otelagent.kernel.calibration import Tick
    from otelagent.kernel.known import Known
    from otelagent.kernel.scan import Look

_log = logging.getLogger(__name__)
ATTEMPTS = 3
_TLS = {"x86_64": ("thread.fsbase",), "aarch64": ("thread.uw.tp_value", "thread.tp_value")}
_FIELDS = {
    "task_stack": ("stack",),
    "task_mm": ("mm",),
    "task_pid": ("pid",),
    "task_tgid": ("tgid",),
    "task_group_leader": ("group_leader",),
    # Linux cf25e24db61c ("time: Rename tsk->real_start_time to ->start_boottime", v5.5).
    "task_start_boottime": ("start_boottime", "real_start_time"),
    "task_self_exec_id": ("self_exec_id",),
}


@dataclass(frozen=True, slots=True)
class TaskOffsets:
    """Offsets in task_struct, named as in `struct oa_config`."""

    task_stack: int
    task_mm: int
    task_pid: int
    task_tgid: int
    task_group_leader: int
    task_start_boottime: int
    task_self_exec_id: int
    task_tls: int

    def by_name(self) -> dict[str, int]:
        """Each with its name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class KernelOffsets:
    """All that the programs need: fields of task_struct and the way to the registers.

    Attributes:
        source: Where the fields were found.
        again: Where they were seen once more; empty if nowhere.
        unseen: Fields for which that did not hold.
        passed_over: Sources that gave nothing, each with its reason.
        ticks: How many times the distance to the registers was seen.
        mm_auxv: Offset of `mm_struct.saved_auxv`; 0 if it is not known.
        task_state: Offset of a thread's state in `task_struct`; 0 if it is not known.
    """

    task: TaskOffsets
    user_regs_distance: int
    source: str
    again: str = ""
    unseen: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    ticks: int = 0
    mm_auxv: int = 0
    task_state: int = 0

    def config_fields(self) -> dict[str, int]:
        """Name and value of each field of `struct oa_config` that comes from here."""
        return {
            **self.task.by_name(),
            "user_regs_distance": self.user_regs_distance,
            "mm_auxv": self.mm_auxv,
            "task_state": self.task_state,
        }


_Found = tuple[TaskOffsets, str, str, tuple[str, ...], Path | None]
NO_BTF = f"{VMLINUX} is not there (CONFIG_DEBUG_INFO_BTF)"
_OWN = "perf event on a thread of our own"


def read_btf_offsets(path: Path = VMLINUX) -> TaskOffsets:
    """Look the fields of task_struct up in BTF.

    Raises:
        MissingFeature: There is no BTF, or it lacks a field.
    """
    wanted = {**_FIELDS, "task_tls": _TLS[platform.machine()]}
    with Btf.open(path) as btf:
        return TaskOffsets(**{name: _offset(btf, fields) for name, fields in wanted.items()})


def read_auxv_offset(path: Path) -> int:
    """Look up where an address space keeps its auxiliary vector; 0 if that cannot be told."""
    with Btf.open(path) as btf:
        return btf.offset("mm_struct", "saved_auxv") or 0


def read_state_offset(path: Path) -> int:
    """Look up where a thread's state is; 0 if that cannot be told."""
    with Btf.open(path) as btf:
        # Linux 2f064a59a11f ("sched: Change task_struct::state", v5.14).
        return btf.offset("task_struct", "__state") or btf.offset("task_struct", "state") or 0


def _offset(btf: Btf, names: tuple[str, ...]) -> int:
    for name in names:
        found = btf.offset("task_struct", name)
        if found is not None:
            return found
    raise MissingFeature(f"{btf.path}: task_struct has no field {' or '.join(names)}")


def find_offsets(btf_path: Path | None = None) -> KernelOffsets:
    """Find everything for the running kernel; loads a program for some milliseconds.

    To be called on the process's first thread.

    Raises:
        KernelError: A source is missing, or a privilege.
    """
    ticks: list[Tick] = []

    def look() -> list[Tick]:
        for _ in range(ATTEMPTS):  # on a busy machine we may not have run at all
            ticks.extend(read_ticks())
            if ticks:
                break
        return ticks

    passed: list[str] = []
    try:
        here = look_here(look)
    except KernelError as err:
        if btf_path is not None or find_btf_files():
            raise
        passed.append(NO_BTF)
        _find_by_search(passed)  # so that all that is missing is named, if all is
        raise MissingFeature(str(err), hint=err.hint) from err
    found = _find_by_btf(btf_path, here, passed) or _find_by_search(passed)
    for reason in passed:
        _log.info("%s", fields("no offsets from there", reason=reason))
    task, source, again, unseen, btf = found
    _log.info("%s", fields("kernel offsets", source=source, again=again))
    distance = find_regs_distance(ticks, task.task_stack)
    auxv = read_auxv_offset(btf) if btf else _find_auxv(here.u64(task.task_mm))
    state = read_state_offset(btf) if btf else 0
    how = (source, again, unseen, tuple(passed), len(ticks))
    return KernelOffsets(task, distance, *how, auxv, state)


def _find_by_btf(given: Path | None, here: Known, passed: list[str]) -> _Found | None:
    """Take the first BTF that is there, and that fits our own thread."""
    if given is not None:
        task = read_btf_offsets(given)
        if wrong := find_contradictions(here, task.by_name()):
            raise MissingFeature(
                f"{given} is of another kernel: {', '.join(wrong)} would be wrong",
                hint=f"give the BTF of Linux {platform.release()}, or leave --btf-path out",
            )
        return task, f"BTF file {given}", _OWN, (), given
    files = find_btf_files()
    if VMLINUX not in files:
        passed.append(NO_BTF)
    for path in files:
        try:
            task = read_btf_offsets(path)
        except MissingFeature as err:
            passed.append(str(err))
            continue
        wrong = find_contradictions(here, task.by_name())
        if path == VMLINUX:
            # The kernel itself is believed: what contradicts it may be a namespace.
            return task, f"BTF of the running kernel ({path})", _OWN, tuple(wrong), path
        if not wrong:
            return task, f"BTF file {path}", _OWN, (), path
        passed.append(f"{path} is of another kernel: {', '.join(wrong)} would be wrong")
    return None


def _find_by_search(passed: list[str]) -> _Found:
    """Search by a system call's tracepoint and, independently, by a perf event.

    Raises:
        MissingFeature: Neither finds everything, or they do not agree.
    """
    # Not needed on most kernels, and it brings a third of the imports' time.
    from otelagent.kernel.scan import BY_SYSCALLS, BY_TICKS  # noqa: PLC0415

    answers: list[tuple[TaskOffsets, str]] = []
    for look in (*BY_SYSCALLS, BY_TICKS):
        if answers and look in BY_SYSCALLS:
            continue
        try:
            answers.append((_search(look), look.name))
        except KernelError as err:
            passed.append(f"{look.name}: {err}")
    if not answers:
        raise MissingFeature(
            "no source of kernel offsets is left: " + "; ".join(passed),
            hint="give a BTF file of this kernel with --btf-path",
        )
    task, source = answers[0]
    if len(answers) == 1:
        return task, source, "", TaskOffsets.__slots__, None
    other, again = answers[1]
    if unlike := [name for name, at in task.by_name().items() if at != other.by_name()[name]]:
        raise MissingFeature(
            f"{source} and {again} do not agree on {', '.join(unlike)}",
            hint="give a BTF file of this kernel with --btf-path",
        )
    return task, source, again, (), None


def _find_auxv(mm: int) -> int:
    from otelagent.kernel.scan import find_auxv  # noqa: PLC0415

    return find_auxv(mm)


def _search(look: Look) -> TaskOffsets:
    from otelagent.kernel.scan import read_witnesses, scan_offsets  # noqa: PLC0415

    return TaskOffsets(**scan_offsets(read_witnesses(look)))
