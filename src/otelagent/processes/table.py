# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""pid → process: applies what the kernel tells, and writes the per-process maps.

A pid lives several lives: fork, exec and, after an exit, somebody else. Each
life has an address space and begins at a time, so that a stack sampled before
an exec is finished with the code of before. Where a process was not seen from
its first instruction on, its mappings are read from /proc once.
"""

from __future__ import annotations

import logging
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.bpf.sideband import EventKind
from otelagent.errors import AgentError, ProcessGone
from otelagent.log import fields
from otelagent.processes.lives import NOTHING_KEPT, Entry, Kept, Life, recall_all
from otelagent.processes.mapped import range_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otelagent.abi.codec import Generation
    from otelagent.bpf.maps import HashMap
    from otelagent.bpf.sideband import Event
    from otelagent.formats.proc_maps import MappedRange
    from otelagent.processes.mapped import MappedFiles
    from otelagent.processes.spaces import Space, Spaces

logger = logging.getLogger(__name__)

_PID = struct.Struct("=I")
_PROCESS = struct.Struct("=QIIII")
GRACE_NS = 3_000_000_000
"""How long a life is kept after its end: samples of it may still be on their way."""
RESCAN_NS = 1_000_000_000
"""/proc/PID/maps of one process is read again at most this often, doubling."""
MAX_UNREAD = 256
"""Ranges of a process that was not sampled; with more it is read from /proc if it ever is."""
REST = 10
"""But not for so many times as long as it took: after lost events this is the only limit."""


@dataclass(slots=True)
class ProcessTable:
    """All processes that matter. Used by one thread.

    Attributes:
        images: Path of the executable of each image that was sampled; read by other threads.
        wants_all: Processes enter by exec (whole system, cgroups); else only children
            of those that are in, and what BPF reports.
        read_maps: Reads /proc/PID/maps.
        on_fork: Told of each process that forks, and of the space that its child has, too.
        on_gone: Told of each pid whose image is gone: by its end, exec, or for another process.
        on_end: Told of each pid that is forgotten, since the process has ended.
        on_wanted: Told of each pid whose events are wanted from now on, or (False) no more.
        on_child: Told of each fork of a process that is in: (parent, child).
        kept: Has the events of processes that are not in.
    """

    processes: HashMap
    spaces: Spaces
    files: MappedFiles
    read_maps: Callable[[int], list[MappedRange]]
    wants_all: bool = False
    on_gone: Callable[[int], None] = lambda _pid: None
    on_fork: Callable[[int, Space], None] = lambda _pid, _space: None
    on_end: Callable[[int], None] = lambda _pid: None
    on_wanted: Callable[[int, bool], None] = lambda _pid, _on: None
    on_child: Callable[[int, int], None] = lambda _parent, _child: None
    entries: dict[int, Entry] = field(default_factory=dict)
    images: dict[Generation, str] = field(default_factory=dict)
    kept: Kept = NOTHING_KEPT
    _is_meeting: bool = False

    def follow(self, pid: int, now_ns: int) -> None:
        """Let a process in whose events are wanted from now on."""
        self._meet(pid)
        if pid not in self.entries:
            self.entries[pid] = Entry(pid, [Life(now_ns, self.spaces.make())])
            self.on_wanted(pid, True)

    def _meet(self, pid: int) -> None:
        """Apply what the kernel told of a process, and of its elders, before anybody asked."""
        if not self._is_meeting and (events := recall_all(self.kept, pid, self.entries)):
            self._is_meeting = True
            self.apply(events, was_kept=True)
            self._is_meeting = False

    def prepare(self, pid: int, now_ns: int) -> Space | None:
        """Read what a process has mapped before it is sampled for the first time.

        Which life that is only BPF can tell: it fills that in. Returns None if
        the process cannot be read now; its first sample will tell.
        """
        self.follow(pid, now_ns)
        entry = self.entries[pid]
        try:
            self._scan(entry, now_ns)
        except AgentError as err:
            logger.info("%s", fields("process not read yet", pid=pid, error=err))
            return None
        self.processes[_PID.pack(pid)] = _PROCESS.pack(0, 0, pid, entry.now.space.number, 0)
        self._note_published(entry.now)
        return entry.now.space

    def ran_before(self, pid: int, lines: bytes, now_ns: int) -> None:
        """Note what a process has mapped that may be gone when sampled; events may be late."""
        self._meet(pid)
        if pid not in self.entries:
            self.entries[pid] = Entry(pid, [Life(now_ns, self.spaces.make())])
        life = self.entries[pid].now
        if not life.is_complete and life.generation is None:
            life.space = self.spaces.own(life.space)
            life.space.unread, life.space.lines, life.is_complete = [], lines, True

    def apply(self, events: Iterable[Event], *, was_kept: bool = False) -> None:
        """Apply side-band events in order; a bad process is counted and left out."""
        for event in events:
            try:
                if self.kept.is_on and not was_kept and event.pid not in self.entries:
                    self._note(event)
                else:
                    self._apply(event)
            except ProcessGone:
                continue  # a race that is expected
            except AgentError as err:
                metrics.process_failed.add(reason=type(err).__name__)
                logger.info("%s", fields("process event skipped", pid=event.pid, error=err))

    def _note(self, event: Event) -> None:
        """Take what an event of a process that is not in tells of others, and of files."""
        if event.kind == EventKind.MMAP:
            self.files.meet(event.pid, range_of(event))
        elif event.kind == EventKind.FORK and (parent := self.entries.get(event.ppid)):
            self.on_fork(event.ppid, parent.now.space)
        elif event.kind in {EventKind.EXEC, EventKind.LOST}:
            self._apply(event)

    def _apply(self, event: Event) -> None:
        if event.kind == EventKind.LOST:
            self.doubt(event.time_ns)
            return
        entry = self.entries.get(event.pid)
        if event.is_new_process:
            self._fork(event)
        elif event.kind == EventKind.EXEC and (entry or self.wants_all):
            self._exec(event.pid, event.time_ns)
        elif entry is None:
            return
        elif event.kind == EventKind.MMAP:
            if entry.now.is_complete:
                self._map(entry, range_of(event))
        elif event.is_leader_exit:
            entry.exited_ns = event.time_ns

    def doubt(self, time_ns: int) -> None:
        """Events were lost: what is known may be wrong, so let BPF report each process again."""
        self.kept.distrust()
        for pid, entry in self.entries.items():
            entry.doubt(time_ns)
            self.processes.delete(_PID.pack(pid))
        self.spaces.on_taken()

    def _fork(self, event: Event) -> None:
        self._meet(event.ppid)
        parent = self.entries.get(event.ppid)
        if parent is None:
            if not self.wants_all:
                return
            # Its child may be sampled, and gone before it is read: then the parent tells.
            parent = self.entries[event.ppid] = Entry(event.ppid, [Life(0, self.spaces.make())])
        self.on_child(event.ppid, event.pid)
        old = self.entries.get(event.pid)
        life = parent.at(event.time_ns)
        space = self.spaces.share(life.space)
        child = Life(event.time_ns, space, life.is_complete, None, life.path)
        child.elder = 0 if life.is_complete and life.space.unread is None else event.ppid
        child.published = life.published  # by BPF, at the fork
        child.execs = life.execs
        self.on_fork(event.ppid, life.space)
        if old:
            old.lives.append(child)
            old.exited_ns = 0
            self.on_gone(event.pid)
        else:
            self.entries[event.pid] = Entry(event.pid, [child])
            self.on_wanted(event.pid, True)

    def _exec(self, pid: int, time_ns: int) -> None:
        life = Life(time_ns, self.spaces.make(), is_complete=True)
        # Of a whole system most processes end before they are sampled.
        life.space.unread = [] if self.wants_all else None
        entry = self.entries.get(pid)
        if entry is None:
            # What ran before is not known, and must not be taken for what runs now.
            self.entries[pid] = Entry(pid, [Life(0, self.spaces.make()), life])
        else:
            if entry.now.generation is None and entry.now.published:
                self.processes.delete(_PID.pack(pid))
                life.published = entry.now.space.number  # BPF may have taken it for the new one's
            if entry.now.execs >= 0:
                life.execs = entry.now.execs + 1
            entry.lives.append(life)
            entry.exited_ns = 0
            self.on_gone(pid)

    def _map(self, entry: Entry, mapped: MappedRange) -> None:
        life = entry.now
        if not life.path and mapped.inode and not life.space.lines:
            life.path = mapped.path
        if life.space.unread is not None:
            self._put_off(entry, mapped)
            return
        mapping = self.files.resolve(entry.pid, mapped)
        own = self.spaces.own(life.space)
        self.spaces.add(own, mapping)
        if own is not life.space:
            life.space = own
            self._publish(entry)

    def _put_off(self, entry: Entry, mapped: MappedRange) -> None:
        """Take note of what a process maps that was not sampled yet; `_read` looks at it."""
        life = entry.now
        life.space = self.spaces.own(life.space)
        unread = life.space.unread
        if unread is None or len(unread) >= MAX_UNREAD:
            life.space.take_unread()
            life.is_complete = False
            return
        self.files.meet(entry.pid, mapped)
        unread.append(mapped)

    def _read(self, pid: int, life: Life) -> None:
        """Look at what a process has mapped that is sampled for the first time."""
        if life.space.unread is None:
            return
        for mapped in life.space.take_unread():
            if mapped.path == "[vsyscall]":
                continue
            self.spaces.add(life.space, self.files.resolve(pid, mapped))
            if not life.path and mapped.inode:
                life.path = mapped.path
        if life.generation:
            self.images[life.generation] = life.path
        if life.elder:
            self.on_fork(life.elder, life.space)

    def _at(self, generation: Generation, time_ns: int) -> Life | None:
        self._meet(generation.pid)
        entry = self.entries.get(generation.pid)
        if entry is None:
            return None
        life = entry.at(time_ns)
        self._read(entry.pid, life)
        return life

    def is_ready(self, generation: Generation, time_ns: int) -> bool:
        """Tell whether all code of a process at a time is known."""
        life = self._at(generation, time_ns)
        return life is not None and life.is_complete

    def space_at(self, generation: Generation, time_ns: int) -> Space | None:
        """The address space that a process had at a time; None if it is not known."""
        life = self._at(generation, time_ns)
        return life.space if life else None

    def reported(self, generation: Generation, addr: int, time_ns: int) -> None:
        """BPF met a process or an address that it does not know: make it known."""
        pid = generation.pid
        self.follow(pid, time_ns)
        entry = self.entries[pid]
        try:
            life = self._live(entry, generation, time_ns)
            if life is not entry.now:
                # Of an image that is gone; its deferred stacks find their code by time.
                self._ask_elder(life, time_ns)
                return
            self._read(pid, life)
            if not life.is_complete or (addr and life.space.find(addr) is None):
                try:
                    self._scan(entry, time_ns)
                except ProcessGone:
                    self._ask_elder(life, time_ns)
                    raise
            self._publish(entry)
        except ProcessGone:
            entry.exited_ns = entry.exited_ns or time_ns  # no event will tell
        except AgentError as err:
            metrics.process_failed.add(reason=type(err).__name__)
            logger.info("%s", fields("process skipped", pid=pid, error=err))

    def _live(self, entry: Entry, generation: Generation, time_ns: int) -> Life:
        """Find the life that a report is of, and note its generation."""
        life = entry.at(time_ns)
        before = entry.before(life)
        if before and before.generation == generation:
            # In the midst of exec: the event has come, and the number is still the old one.
            return before
        if life is entry.now and life.is_other(generation):
            # Somebody else by now, or another program: begin anew.
            life = Life(time_ns, self.spaces.make())
            entry.rest_until_ns = 0
            entry.lives.append(life)
            self.on_gone(entry.pid)
        if life.generation is None or life.generation < generation:
            life.generation = generation
            life.execs = max(life.execs, generation.exec_id)
            if not life.is_complete:
                entry.rest_until_ns = 0  # an exec that was lost
        self.images.setdefault(generation, life.path)
        return life

    def _scan(self, entry: Entry, now_ns: int) -> None:
        life = entry.now
        if now_ns < max(entry.rest_until_ns, entry.next_scan_ns * life.is_complete):
            return
        began_ns = time.monotonic_ns()
        entry.next_scan_ns = now_ns + (RESCAN_NS << min(entry.scans, 6))
        entry.scans += 1
        ranges = [each for each in self.read_maps(entry.pid) if each.path != "[vsyscall]"]
        mappings = [self.files.resolve(entry.pid, each) for each in ranges]
        life.path = life.path or next((each.path for each in ranges if each.inode), "")
        life.space = self.spaces.own(life.space)
        life.space.take_unread()
        self.spaces.replace(life.space, mappings)
        life.is_complete = True
        # Who changes 100,000 mappings makes events be lost, too: that must not go round and round.
        entry.rest_until_ns = now_ns + REST * (time.monotonic_ns() - began_ns)

    def _ask_elder(self, life: Life, now_ns: int) -> None:
        """Learn what a process that is gone had mapped from the one that it was forked from."""
        elder = self.entries.get(life.elder)
        if life.is_complete or elder is None or elder.at(life.since_ns) is not elder.now:
            return
        if not elder.now.is_complete:
            self._scan(elder, now_ns)
        if elder.now.is_complete:
            self._read(elder.pid, elder.now)
            self.spaces.release(life.space)
            life.space = self.spaces.share(elder.now.space)
            life.path = elder.now.path
            life.is_complete = True
            if life.generation:
                self.images[life.generation] = life.path

    def _publish(self, entry: Entry) -> None:
        """Tell BPF where a process's code is."""
        life = entry.now
        if life.generation is None:
            return
        value = _PROCESS.pack(
            life.generation.start_ns, life.generation.exec_id, entry.pid, life.space.number, 0
        )
        self.images[life.generation] = life.path
        self.processes[_PID.pack(entry.pid)] = value
        self._note_published(life)

    def _note_published(self, life: Life) -> None:
        if life.published not in {0, life.space.number}:
            self.spaces.on_taken()
        life.published = life.space.number

    def clean(self, now_ns: int, is_alive: Callable[[int], bool]) -> None:
        """Forget lives and processes that ended longer than the grace period ago.

        What was sampled before `now_ns` must have been seen.
        """
        self.kept.purge(now_ns - GRACE_NS)
        for pid, entry in list(self.entries.items()):
            while len(entry.lives) > 1 and entry.lives[1].since_ns + GRACE_NS < now_ns:
                self.spaces.release(entry.lives.pop(0).space)
            if entry.exited_ns and entry.exited_ns + GRACE_NS < now_ns:
                if is_alive(pid):
                    # Its first thread has ended; of the last one's end nobody will tell.
                    entry.exited_ns = now_ns
                else:
                    self.forget(pid)

    def forget(self, pid: int) -> None:
        """Drop everything about a pid."""
        entry = self.entries.pop(pid)
        self.on_wanted(pid, False)
        self.kept.let_go(pid)
        for life in entry.lives:
            self.spaces.release(life.space)
        self.processes.delete(_PID.pack(pid))
        self.on_gone(pid)
        self.on_end(pid)
