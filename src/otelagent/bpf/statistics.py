# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How long our BPF programs ran: measured by the kernel, for whoever asks for it.

Measuring takes some 20 ns for each run of every BPF program of the machine, so it is off
until somebody wants to know. Programs that are tail-called count for the one that called.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from otelagent import log
from otelagent._native import ffi, lib
from otelagent.bpf.reasons import describe, hint_for
from otelagent.errors import AgentError, NotPermitted

if TYPE_CHECKING:
    from otelagent.bpf.object import BpfObject


logger = logging.getLogger(__name__)


class RunTime(NamedTuple):
    """What a program took."""

    time_ns: int
    runs: int


class RunTimes:
    """The kernel measures while this is open; any thread may read.

    Raises:
        NotPermitted: CAP_SYS_ADMIN is missing.
    """

    def __init__(self) -> None:
        fd = int(lib.oa_stats_enable())
        if fd < 0:
            what = f"the run time of BPF programs cannot be measured: {describe(fd)}"
            raise NotPermitted(what, hint=hint_for(fd))
        self._fd = fd
        self._programs: dict[str, int] = {}

    def watch(self, bpf: BpfObject) -> None:
        """Read those programs of an object that are loaded."""
        for name in bpf.programs():
            try:
                self._programs[name] = bpf.program(name).fd
            except AgentError:
                continue  # it is not loaded

    def read(self) -> dict[str, RunTime]:
        """Read what each program took since it was loaded; those that never ran are left out."""
        found = {}
        values = ffi.new("u64[2]")
        for name, fd in self._programs.items():
            if lib.oa_program_times(fd, values) == 0 and values[1]:
                found[name] = RunTime(int(values[0]), int(values[1]))
        return found

    def total_ns(self) -> int:
        """Add all programs up."""
        return sum(each.time_ns for each in self.read().values())

    def close(self) -> None:
        """Let the kernel stop measuring."""
        os.close(self._fd)


def try_to_measure() -> RunTimes | None:
    """Let the kernel measure; None where it refuses, which is told once."""
    try:
        return RunTimes()
    except NotPermitted as err:
        log.once(logger, "run-time", str(err), hint=err.hint)
        return None
