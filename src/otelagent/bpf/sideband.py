# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells about processes, from one perf buffer per CPU.

Executable mappings, names, exec, fork, exit and kernel symbols, with a delay of
about a millisecond. Events of one drain are ordered by time over all CPUs; an
event that is being written while another CPU's is read may come one drain
later than a younger one. Used by one thread.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from otelagent import metrics
from otelagent._native import ffi, lib
from otelagent.bpf.links import find_dead, online_cpus, open_error, read_times
from otelagent.bpf.reasons import describe
from otelagent.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVENT = struct.Struct("=QQQQQQIIIIIIIIIIII")
_PAGES = 64
"""256 KiB per CPU: some 2,000 mappings between two drains."""


class EventKind(IntEnum):
    """`enum oa_event_kind`."""

    MMAP = 1
    COMM = 2
    EXEC = 3
    FORK = 4
    EXIT = 5
    KSYMBOL = 6
    LOST = 7


class Event(NamedTuple):
    """One event; fields that its kind does not have are 0 or empty.

    `name` is a path as the process saw it, a thread's name, or a symbol; bytes,
    since the kernel does not care for encodings. FORK: `pid`, `tid` of the new
    thread (equal for a new process), `ppid` its parent. LOST: `length` records.
    KSYMBOL: bit 0 of `flags` says that the symbol is gone.
    """

    kind: EventKind
    time_ns: int
    pid: int
    tid: int
    ppid: int
    addr: int
    length: int
    page_offset: int
    major: int
    minor: int
    inode: int
    inode_generation: int
    prot: int
    flags: int
    cpu: int
    name: bytes

    @property
    def is_new_process(self) -> bool:
        """A FORK of a process, not of a thread."""
        return self.kind == EventKind.FORK and self.pid == self.tid

    @property
    def is_leader_exit(self) -> bool:
        """An EXIT of a process's first thread; others may still run."""
        return self.kind == EventKind.EXIT and self.pid == self.tid


_KINDS = {int(kind): kind for kind in EventKind}


def _read_events(events: bytes, names: bytes) -> Iterator[Event]:
    for row in _EVENT.iter_unpack(events):
        time_ns, addr, length, page_offset, inode, generation, kind, pid, tid, ppid = row[:10]
        major, minor, prot, flags, start, size, cpu, _ = row[10:]
        where = (addr, length, page_offset, major, minor, inode, generation, prot, flags, cpu)
        name = names[start : start + size]
        yield Event(_KINDS[kind], time_ns, pid, tid, ppid, *where, name)


def _events_of(out: Any) -> list[Event]:  # noqa: ANN401 (cdata)
    rows = ffi.buffer(out.events, out.count * _EVENT.size)[:]
    names = ffi.buffer(out.names, out.names_bytes)[:] if out.names_bytes else b""
    return list(_read_events(rows, names))


class Sideband:
    """Process events of every CPU.

    Args:
        pid: -1 for every process, or one thread and the children it will have.
        pages: Size of each CPU's buffer, a power of two.
        is_patient: For a whole system: events need not be seen soon, and the kernel wakes us
            only when a quarter of a buffer is full. Names and threads are not told of.
        keeps_lives: Events of a process are kept until it is let in by `recall`: most end before
            that, and are never told of. Told of are the first fork of one that was let in,
            and mappings of files that may be a CPython and were not told of lately.
    """

    def __init__(
        self,
        *,
        pid: int = -1,
        pages: int = _PAGES,
        is_patient: bool = False,
        keeps_lives: bool = False,
    ) -> None:
        self._handle: Any = lib.oa_sideband_new()
        if not self._handle:
            raise KernelError("no memory for process events")
        if is_patient:
            lib.oa_sideband_be_patient(self._handle)
        self._lives: Any = lib.oa_sideband_lives(self._handle) if keeps_lives else None
        if keeps_lives and not self._lives:
            raise KernelError("no memory for process events")
        self._events = ffi.new("struct oa_events *")
        self._pid = pid
        self._pages = pages
        self._cpus: dict[int, int] = {}  # descriptor of each one's event
        self._seen: dict[int, int] = {}
        self.malformed = 0
        """Records that are not what their type says."""
        self.has_more = False
        """The last drain was full: drain again without waiting."""

    def open(self) -> None:
        """Begin to listen on every online CPU.

        Raises:
            KernelError: A privilege or perf events are missing.
        """
        try:
            self.refresh()
        except KernelError:
            self.close()
            raise

    def refresh(self) -> bool:
        """Follow CPUs that came or went; call about once a second, after a drain.

        Returns:
            Whether a CPU came: what happened there until now was not seen.
        """
        online = set(online_cpus())
        for cpu in (self._cpus.keys() - online) | self._left():
            del self._cpus[cpu]
            lib.oa_sideband_remove_cpu(self._handle, cpu)
        came = sorted(online - self._cpus.keys())
        for cpu in came:
            fd = lib.oa_sideband_add_cpu(self._handle, cpu, self._pid, self._pages)
            if fd == -errno.ENODEV:
                continue  # it went offline again
            if fd < 0:
                raise open_error(fd, "dummy (process events)")
            self._cpus[cpu] = fd
        return bool(came)

    def _left(self) -> set[int]:
        """CPUs that went and came between two looks: their events tell nothing any more."""
        if self._pid != -1:
            return set()
        before = self._seen
        self._seen = {cpu: read_times(fd)[1] for cpu, fd in self._cpus.items()}
        return find_dead(before, self._seen)

    def watch(self, fd: int) -> None:
        """Let a descriptor that becomes readable end `wait`; at most one.

        Raises:
            KernelError: It cannot be polled.
        """
        error = lib.oa_sideband_watch(self._handle, fd)
        if error:
            raise KernelError(f"cannot wait for descriptor {fd}: {describe(error)}")

    @property
    def has_ksymbol(self) -> bool:
        """Whether the kernel tells of new kernel symbols."""
        return bool(lib.oa_sideband_has_ksymbol(self._handle))

    def want(self, pid: int, on: bool = True) -> None:
        """Take a process in, or out; from the first call on, `drain` gives no others' events.

        Nor does it tell of threads then, but for a process's first one.

        The children of a wanted process are wanted. May be called from any thread.
        """
        error = lib.oa_sideband_want(self._handle, pid, on)
        if error:
            raise KernelError(f"cannot follow process {pid}: {describe(error)}")

    def wait(self, timeout_ms: int, company_ms: int = 0) -> bool:
        """Sleep until something that is wanted has happened, or the time is over.

        Args:
            timeout_ms: How long at most.
            company_ms: How long an event waits for others; ever longer, up to 0.2 s (four times
                as long if below 5 ms), while only such come that nobody wants.
                Where it is patient they do so all the time.
        """
        return self.has_more or bool(lib.oa_sideband_wait(self._handle, timeout_ms, company_ms))

    def drain(self) -> list[Event]:
        """Take what has happened, at most 8,192 events; lost ones are counted in the metrics."""
        out = self._events
        lib.oa_sideband_drain(self._handle, out)
        if out.malformed:
            self.malformed += out.malformed
            metrics.malformed.add(out.malformed, reason="side-band")
        self.has_more = bool(out.more)
        if not out.count:
            return []
        events = _events_of(out)
        for event in events:
            if event.kind == EventKind.LOST:
                metrics.sideband_lost.add(event.length)
        return events

    @property
    def is_on(self) -> bool:
        """Whether it keeps lives."""
        return self._lives is not None

    def recall(self, pid: int) -> list[Event]:
        """Let a process in: gives what was kept of it, in order; what follows is drained."""
        out = self._events
        if self._lives is None or lib.oa_lives_recall(self._lives, pid, out) or not out.count:
            return []
        return _events_of(out)

    def let_go(self, pid: int) -> None:
        """Keep the events of a process from now on."""
        if self._lives is not None:
            lib.oa_lives_let_go(self._lives, pid)

    def purge(self, before_ns: int) -> None:
        """Forget what was kept of processes that ended before a time."""
        if self._lives is not None:
            lib.oa_lives_purge(self._lives, max(before_ns, 0))  # soon after boot

    def distrust(self) -> None:
        """Forget all that was kept: something may have been missed."""
        if self._lives is not None:
            lib.oa_lives_clear(self._lives)

    def close(self) -> None:
        """Stop listening."""
        if self._handle is not None:
            lib.oa_sideband_close(self._handle)
            self._handle = self._lives = None
            self._cpus.clear()
