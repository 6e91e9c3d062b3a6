# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the running kernel keeps what the BPF programs read of a thread.

The profiler's object has no relocations; these offsets go into its `config`
before it is loaded. Sources, the first that answers wins: a BTF file that was
given, the kernel's own BTF, a search in the task_structs of threads of ours.
The distance to the user's registers is measured on every kernel.
"""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.bpf.btf import VMLINUX, Btf
from otelagent.errors import MissingFeature
from otelagent.kernel.calibration import find_regs_distance, read_ticks
from otelagent.log import fields

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
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


@dataclass(frozen=True, slots=True)
class KernelOffsets:
    """All that the programs need: fields of task_struct and the way to the registers."""

    task: TaskOffsets
    user_regs_distance: int
    source: str

    def config_fields(self) -> dict[str, int]:
        """Name and value of each field of `struct oa_config` that comes from here."""
        task = {name: getattr(self.task, name) for name in TaskOffsets.__slots__}
        return {**task, "user_regs_distance": self.user_regs_distance}


def read_btf_offsets(path: Path = VMLINUX) -> TaskOffsets:
    """Look the fields of task_struct up in BTF.

    Raises:
        MissingFeature: There is no BTF, or it lacks a field.
    """
    wanted = {**_FIELDS, "task_tls": _TLS[platform.machine()]}
    with Btf.open(path) as btf:
        return TaskOffsets(**{name: _offset(btf, fields) for name, fields in wanted.items()})


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
    task, source = _find_task(btf_path)
    return KernelOffsets(task, find_regs_distance(read_ticks(), task.task_stack), source)


def _find_task(btf_path: Path | None) -> tuple[TaskOffsets, str]:
    if btf_path is not None:
        return read_btf_offsets(btf_path), f"BTF file {btf_path}"
    try:
        return read_btf_offsets(), f"BTF of the running kernel ({VMLINUX})"
    except MissingFeature as err:
        # Not needed on most kernels, and it brings a third of the imports' time.
        from otelagent.kernel.scan import read_witnesses, scan_offsets  # noqa: PLC0415

        _log.info("%s", fields("no BTF: searching kernel structs", reason=str(err)))
        return TaskOffsets(**scan_offsets(read_witnesses())), "search (the kernel has no BTF)"
