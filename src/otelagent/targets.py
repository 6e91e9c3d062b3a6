# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is sampled: processes with their future children, and cgroups, as BPF is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otelagent.abi._generated import Target
from otelagent.bpf.maps import FdArray, HashMap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from otelagent.bpf.object import BpfObject
    from otelagent.bpf.records import CpuRecords


class Targets:
    """The target set; for any thread.

    Raises:
        OSError: A cgroup's directory cannot be opened.
    """

    def __init__(self, bpf: BpfObject, records: CpuRecords, cgroups: Sequence[Path]) -> None:
        self._modes = HashMap.of(bpf, "targets")
        self._records = records
        slots = FdArray.of(bpf, "target_cgroups")
        for index, path in enumerate(cgroups):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            slots[index] = fd
            os.close(fd)
        self.set(os.getpid(), Target.NEVER)

    def set(self, pid: int, mode: Target) -> None:
        """Say how a process is sampled from now on."""
        self._modes[_key(pid)] = int(mode).to_bytes(4, "little")
        self._records.advance_epoch()

    def adopt(self, parent: int, child: int) -> None:
        """Sample a child as its parent, where BPF does not see forks."""
        if mode := self._modes.get(_key(parent)):
            self._modes[_key(child)] = mode

    def drop(self, pid: int) -> None:
        """Forget a process that ended.

        on_free does it, but now and then misses one, and its number may be given to anybody.
        """
        self._modes.delete(_key(pid))


def _key(pid: int) -> bytes:
    return pid.to_bytes(4, "little")
