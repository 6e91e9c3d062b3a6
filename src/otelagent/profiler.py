# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Build, run and stop the profiler: what `record` and `top` share.

It alone makes the objects and starts the threads: *reader* drains the ring,
*processes* keeps the maps right. The front reads results after `stop`, or
while it runs after `flush`.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.abi._generated import Target
from otelagent.bpf.maps import ArrayMap, ArrayOfMaps, HashMap
from otelagent.bpf.records import CpuRecords
from otelagent.bpf.ring import Ring
from otelagent.bpf.sideband import Event, Sideband
from otelagent.host import procfs
from otelagent.host.cgroup import Cgroup
from otelagent.host.kept import raise_open_files
from otelagent.kernel.plan import attach_events
from otelagent.log import fields
from otelagent.losses import Losses, read_losses
from otelagent.namers import Namers, detector
from otelagent.processes.executables import Executables
from otelagent.processes.files import look_mapped, open_mapped
from otelagent.processes.finisher import DeferredFinisher, Maps
from otelagent.processes.forecast import preload
from otelagent.processes.mapped import MappedFiles
from otelagent.processes.python_files import PythonFiles
from otelagent.processes.rowstore import RowStore
from otelagent.processes.runtimes import Runtimes
from otelagent.processes.spaces import Spaces
from otelagent.processes.survey import Survey
from otelagent.processes.table import ProcessTable
from otelagent.processes.worker import ProcessesThread
from otelagent.queues import BoundedQueue
from otelagent.sampling import Sampling, load_objects
from otelagent.symbolize.kernel import KernelSymbols
from otelagent.targets import Targets
from otelagent.traces.collector import Collector
from otelagent.traces.handler import PythonNamers, TraceHandler
from otelagent.traces.reader import FIRST_MS, FIRST_OF_ALL_MS, ReaderThread
from otelagent.unwind.cache import RowCache
from otelagent.unwind.load import load_rows

if TYPE_CHECKING:
    from otelagent.abi.codec import Report
    from otelagent.options import Options

logger = logging.getLogger(__name__)
MAX_OPEN_FILES = 4096
SURVEY_S, SLICE_S = 0.3, 0.005
"""CPU for looking at what runs already, before sampling begins, and then at a time."""
MAX_FINISHED, MAX_FINISHED_BYTES = 8192, 40 << 20
"""Deferred stacks that were unwound and wait for the reader: more than can wait to be unwound."""


class Profiler:
    """One recording. `start`, then `stop`; the front thread calls both.

    Raises:
        KernelError: from `start`, where the kernel or a privilege is missing.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.kernel = KernelSymbols()
        self.namers = Namers(options.symbols, options.debuginfod, cache=options.cache_directory)
        self.throttled = 0.0
        """The share of ticks that the kernel left out; known once it stopped."""
        self.still_waiting = 0
        """How many threads waited at the end; their waits count until then."""
        self.survey: Survey | None = None
        self.finished: BoundedQueue[bytes] = BoundedQueue(MAX_FINISHED, MAX_FINISHED_BYTES)

    def start(self) -> None:
        """Load, attach, and begin to sample what is in the target set."""
        self.objects, self._unwinders = load_objects(self.options)
        self.bpf = self.objects[0]
        self._make_table()
        self._attach()

    def _make_table(self) -> None:
        bpf = self.bpf
        cache = RowCache(self.options.cache_directory)
        # Half of them for files of code, the rest for CPUs, maps and what names are read from.
        max_open = min(raise_open_files() // 2, MAX_OPEN_FILES)
        self._rules = ArrayMap.of(bpf, "rules").mmap()
        self.records = CpuRecords.of(*self.objects)
        self.targets = Targets(bpf, self.records, self.options.cgroups)
        maps = Maps.of(bpf)
        chunks = ArrayOfMaps.of(bpf, "rows")
        self.store = RowStore(chunks, self._rules, maps.pages, time.monotonic_ns)
        detect = detector(self.options, self._unwinders.need)
        rows = partial(load_rows, cache=cache)
        self.executables = Executables(self.store, rows, detect, max_open)
        if self.options.python:
            files = PythonFiles(HashMap.of(bpf, "python_files"), cache)
            self.executables.on_recognised = files.learn
        self.namers.by_key = self.executables.by_key
        self.runtimes = Runtimes(maps.python_procs, HashMap.of(bpf, "python_threads"))
        python = PythonNamers(self.runtimes.namer, self.runtimes.early_namer)
        self.handler = TraceHandler(self.namers.file, self.kernel, python, self.namers.anonymous)
        self.handler.error_frames = self.options.error_frames
        wants_all = self.options.everything or bool(self.options.cgroups)
        self.sideband = Sideband(is_patient=wants_all, keeps_lives=wants_all)
        self.table = ProcessTable(
            HashMap.of(bpf, "processes"),
            Spaces(maps.mappings, self.executables, self.records.advance_epoch, self.runtimes),
            MappedFiles(self.executables, open_mapped, procfs.read_vdso, look_mapped),
            procfs.read_maps,
            wants_all=wants_all,
            on_fork=self.runtimes.forked,
            on_gone=self.runtimes.gone,
            on_end=self.targets.drop,
            on_wanted=(lambda _pid, _on: None) if wants_all else self.sideband.want,
            kept=self.sideband,
        )
        self.processes = ProcessesThread(
            self.table,
            self.sideband,
            DeferredFinisher(maps, self._rules, self.store, self.options.max_frames),
            on_finished=self._finish,
            on_python=self._met_python,
            on_ksymbol=self._on_ksymbol,
            is_alive=lambda pid: not procfs.has_ended(pid),
            drained_ns=lambda: self.reader.drained_ns,
            go_on=lambda: self.survey is not None and self.survey.go_on(SLICE_S),
        )
        self.collector = Collector(self._defer, self.processes.post, self.handler.see)

    def _attach(self) -> None:
        self.links = attach_events(self.bpf)
        if not self.links:
            self.table.on_child = self.targets.adopt
        self.sideband.open()
        for pid in self.options.pids:
            self._prepare(pid)
            self.add_target(pid)
        if self.options.held_pid:
            preload(self.executables, self.options.held_argv)
            mode = Target.AT_EXEC if self.links else Target.FOLLOW
            self.add_target(self.options.held_pid, mode)
        if self.table.wants_all:
            self.survey = self._make_survey()
            is_left = self.survey.go_on(SURVEY_S)
            logger.info(
                "%s", fields("processes looked at", count=len(self.table.entries), left=is_left)
            )
        self.ring = Ring.open(self.bpf.map_info("events"))
        first_ms = FIRST_OF_ALL_MS if self.table.wants_all else FIRST_MS
        self.reader = ReaderThread(self.ring, self.collector, self.finished, first_ms)
        self.processes.start()
        self.reader.start()
        self.started_ns = time.monotonic_ns()
        self.sampling = Sampling(self.objects, self.options)
        self.sampling.attach()

    def _make_survey(self) -> Survey:
        paths = self.options.cgroups
        pids = {pid for path in paths for pid in Cgroup(path, is_unified=True).pids()}
        wanted = None if self.options.everything else pids
        return Survey(self.executables, self.table.ran_before, wanted)

    def _prepare(self, pid: int) -> None:
        """Know what runs already, so that its very first sample is whole."""
        now = time.monotonic_ns()
        space = self.table.prepare(pid, now)
        if space is not None:
            self.runtimes.prepare(pid, space, now)

    def add_target(self, pid: int, mode: Target = Target.FOLLOW) -> None:
        """Begin to sample a process and its future children; may be called while running."""
        self.targets.set(pid, mode)
        self.table.follow(pid, time.monotonic_ns())

    def refresh(self) -> None:
        """Follow CPUs that come and go; to be called about once a second."""
        self.sampling.refresh()

    def flush(self) -> None:
        """Let the collector have everything that was sampled until now; from any thread."""
        if self.reader.error is None:
            self.reader.flush()

    @property
    def has_failed(self) -> bool:
        """Whether one of the threads died; `stop` raises what it died of."""
        return self.reader.error is not None or self.processes.error is not None

    def stop(self) -> None:
        """Stop sampling, and take everything that is still on its way."""
        self.sampling.disable()
        self.duration_ns = time.monotonic_ns() - self.started_ns
        ticks, self.throttled = self.sampling.throttled()
        metrics.throttled.add(ticks)
        self.reader.end()
        self.processes.end()
        self.flush()
        until_ns = self.started_ns + self.duration_ns
        self.still_waiting = self.collector.add_waiting(self.sampling.waiting(until_ns), until_ns)
        self.sampling.close()
        for error in (self.reader.error, self.processes.error):
            if error is not None:
                raise error

    def close(self) -> None:
        """Give everything back to the kernel; ends the threads if `stop` was not called."""
        for thread in (self.reader, self.processes):
            if thread.is_alive():
                thread.end()
        for link in self.links:
            link.close()
        self.sideband.close()
        self.reader.close()
        self.ring.close()
        self.store.close()
        self.records.close()
        for bpf in reversed(self.objects):
            bpf.close()

    def _defer(self, data: bytes) -> None:
        self.handler.see_deferred(data)
        self.processes.post(data)

    def _finish(self, trace: bytes) -> None:
        if not self.finished.put(trace, len(trace)):
            metrics.deferred_dropped.add(reason="unwound faster than taken")
        self.reader.wake()  # its interpreter frames are named while the process lives

    def _met_python(self, report: Report) -> None:
        entry = self.table.entries.get(report.generation.pid)
        if entry and entry.now.generation == report.generation:
            self.runtimes.met(report.generation, entry.now.space, report.time_ns)

    def _on_ksymbol(self, event: Event) -> None:
        if event.flags & 1:
            self.kernel.remove(event.addr, event.length)
        else:
            self.kernel.add(event.addr, event.length, event.name.decode(errors="replace"))

    def losses(self) -> Losses:
        """Read the counters of BPF."""
        return read_losses(self.records)
