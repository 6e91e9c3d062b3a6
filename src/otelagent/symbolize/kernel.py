# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names of kernel addresses: kallsyms, modules and BPF programs.

kallsyms is read when the first address is asked for. BPF programs come and go:
`add` and `remove` follow the kernel's KSYMBOL events, whose sizes are exact.
A module that was loaded later is found by reading again. That takes some 30 ms each time, so
it is done where the list of modules, which is short, says that there is something new.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from pathlib import Path

from otelagent import log, metrics
from otelagent.formats.kallsyms import KERNEL, MAX_BYTES, Kallsyms, ModuleRange, parse_modules
from otelagent.model import FrameType
from otelagent.symbolize.result import (
    KERNEL_HIDDEN,
    KERNEL_UNKNOWN,
    OUTSIDE,
    Named,
    plain,
    unresolved,
)

REREAD_SECONDS = 10.0
"""How often it is looked whether there are other modules, while something has no name."""
BPF = "[bpf]"
MAX_ADDED = 65_536
MAX_REMOVED = 4_096

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class _Added:
    start: int
    size: int = field(compare=False)
    name: str = field(compare=False)


class KernelSymbols:
    """Names kernel addresses. May be called from any thread."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._table: Kallsyms | None = None
        self._modules: list[ModuleRange] = []
        self._read_at = float("-inf")
        self._added: list[_Added] = []
        self._removed: dict[int, int] = {}
        self._failure = KERNEL_UNKNOWN

    def name(self, addr: int, *, is_return_address: bool = False) -> Named:
        """Name a kernel address; `module` of the answer tells where it lies."""
        addr -= is_return_address
        with self._lock:
            added = self._find_added(addr)
            if added is not None:
                return plain(added.name, kind=FrameType.KERNEL, module=BPF)
            found = self._find(addr)
            if found is not None:
                return plain(found[0], kind=FrameType.KERNEL, module=found[1])
            return self._unresolved(addr)

    def rest(self) -> None:
        """Hold what was read in less memory, at the price of slower look-ups."""
        with self._lock:
            if self._table:
                self._table.pack()

    def _unresolved(self, addr: int) -> Named:
        if self._table is None:
            return unresolved(self._failure, FrameType.KERNEL, KERNEL)
        if self._table.are_hidden:
            return unresolved(KERNEL_HIDDEN, FrameType.KERNEL, KERNEL)
        module = self._table.module_of(addr) or KERNEL
        return unresolved(OUTSIDE, FrameType.KERNEL, module)

    def add(self, addr: int, length: int, name: str) -> None:
        """Note code that the kernel registered (PERF_RECORD_KSYMBOL)."""
        with self._lock:
            self._drop_overlapped(addr, length)
            self._removed.pop(addr, None)
            if len(self._added) < MAX_ADDED:
                insort(self._added, _Added(addr, length, name))
            else:
                metrics.kernel_dropped.add()

    def remove(self, addr: int, length: int = 1) -> None:
        """Note that code at `addr` is gone (PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER)."""
        with self._lock:
            self._drop_overlapped(addr, max(length, 1))
            if self._table is not None and (self._table.find(addr) or ("", ""))[1] != BPF:
                return  # loaded after kallsyms was read: where that goes on, it would never end
            self._removed[addr] = max(length, 1)
            if len(self._removed) > MAX_REMOVED:
                # Reading again costs less than to remember ever more of what is gone.
                self._table = None
                self._read_at = float("-inf")
                self._removed.clear()

    def _drop_overlapped(self, addr: int, length: int) -> None:
        at = bisect_right(self._added, addr, key=lambda one: one.start) - 1
        if at < 0 or self._added[at].start + self._added[at].size <= addr:
            at += 1
        while at < len(self._added) and self._added[at].start < addr + max(length, 1):
            del self._added[at]

    def _find_added(self, addr: int) -> _Added | None:
        at = bisect_right(self._added, addr, key=lambda one: one.start) - 1
        if at >= 0 and addr < self._added[at].start + self._added[at].size:
            return self._added[at]
        return None

    def _find(self, addr: int) -> tuple[str, str] | None:
        found = self._table.find(addr) if self._table else None
        if found is None and time.monotonic() - self._read_at >= REREAD_SECONDS:
            self._read()
            found = self._table.find(addr) if self._table else None
        if found is not None and found[1] == BPF and self._is_removed(addr):
            return None
        return found

    def _is_removed(self, addr: int) -> bool:
        return any(start <= addr < start + size for start, size in self._removed.items())

    def _read(self) -> None:
        """Read all symbols, unless that would only give those that are known."""
        self._read_at = time.monotonic()
        modules = self._read_modules()
        if self._table is not None and modules == self._modules:
            return
        try:
            with (self._proc / "kallsyms").open("rb") as stream:
                data = stream.read(MAX_BYTES)
        except OSError as err:
            self._failure = KERNEL_UNKNOWN
            log.once(_logger, KERNEL_UNKNOWN, "kernel frames stay unnamed", error=err)
            return
        self._table, self._modules = Kallsyms(data, modules), modules
        if self._table.are_hidden:
            log.once(
                *(_logger, KERNEL_HIDDEN, "kernel frames stay unnamed: addresses are hidden"),
                hint="sysctl kernel.kptr_restrict=0 or run with CAP_SYSLOG",
            )

    def _read_modules(self) -> list[ModuleRange]:
        try:
            return parse_modules((self._proc / "modules").read_text(errors="replace"))
        except OSError:
            return []
