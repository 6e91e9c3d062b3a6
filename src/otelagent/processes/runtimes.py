# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Interpreters in processes: facts into the maps of their unwinders, names out.

An interpreter is looked at when BPF first meets its eval loop in a process:
when the file was mapped, it had not begun yet. Its threads are read again
whenever BPF meets one whose state is not known.
"""

from __future__ import annotations

import logging
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.abi.codec import Generation
from otelagent.errors import AgentError, ProcessGone, TargetError
from otelagent.host.memory import ProcessMemory
from otelagent.interpreters import registry
from otelagent.interpreters.python.frames import PythonFrames
from otelagent.interpreters.python.process import PythonProcess
from otelagent.log import fields

if TYPE_CHECKING:
    from otelagent.bpf.maps import HashMap
    from otelagent.processes.spaces import Mapping, Space

logger = logging.getLogger(__name__)
_PID = struct.Struct("=I")
REFRESH_NS = 20_000_000
"""Threads of one process are read again at most this often."""
MAX_PROCESSES = 4096


@dataclass(slots=True)
class _Attached:
    generation: Generation
    runtime: PythonProcess
    memory: ProcessMemory
    keys: set[bytes]
    next_refresh_ns: int = 0


class Runtimes:
    """The only writer of `python_procs` and `python_threads`.

    `namer` may be called from any thread, the rest by the processes thread.
    """

    def __init__(self, procs: HashMap, threads: HashMap) -> None:
        self._procs = procs
        self._threads = threads
        self._by_pid: dict[int, _Attached] = {}
        self._namers: dict[Generation, PythonFrames] = {}
        self._refused: set[int] = set()
        self._lock = threading.Lock()

    def prepare(self, pid: int, space: Space, now_ns: int) -> None:
        """Attach before the first sample, which will tell which life of the process this is."""
        self.met(Generation(0, 0, pid), space, now_ns)

    def met(self, generation: Generation, space: Space, now_ns: int) -> None:
        """BPF met an eval loop, or a thread of it, that it knows nothing of."""
        try:
            attached = self._by_pid.get(generation.pid)
            if attached is not None and not attached.generation.start_ns:
                attached.generation = generation
            if attached is None or attached.generation != generation:
                attached = self._attach(generation, space)
            if attached is not None and now_ns >= attached.next_refresh_ns:
                attached.next_refresh_ns = now_ns + REFRESH_NS
                self._refresh(attached)
        except ProcessGone:
            return
        except AgentError as err:
            attached = self._by_pid.get(generation.pid)
            if attached is None or attached.generation != generation:
                self.gone(generation.pid)
                # Known and empty: BPF need not ask again.
                self._procs[_PID.pack(generation.pid)] = bytes(self._procs.info.value_size)
                self._refused.add(generation.pid)
            metrics.process_failed.add(reason=type(err).__name__)
            logger.info("%s", fields("interpreter skipped", pid=generation.pid, error=err))

    def _attach(self, generation: Generation, space: Space) -> _Attached | None:
        mapping = _interpreter_of(space)
        if mapping is None or mapping.loaded is None or mapping.loaded.interpreter is None:
            return None
        memory = ProcessMemory(generation.pid)
        runtime = registry.attach(mapping.loaded.interpreter, mapping.bias, memory)
        if not isinstance(runtime, PythonProcess):
            raise TargetError(f"no unwinder for {type(runtime).__name__}")
        self.gone(generation.pid)  # it has read of the image before
        attached = _Attached(generation, runtime, memory, set())
        self._by_pid[generation.pid] = attached
        with self._lock:
            # A reader of its own: names are read by another thread.
            memory = ProcessMemory(generation.pid)
            self._namers[generation] = PythonFrames(runtime.layout, memory)
            if len(self._namers) > MAX_PROCESSES:
                del self._namers[next(iter(self._namers))]
        self._procs[_PID.pack(generation.pid)] = runtime.value()
        return attached

    def _refresh(self, attached: _Attached) -> None:
        pid = attached.generation.pid
        fresh = {t.key_for(pid): t.value() for t in attached.runtime.read_threads(attached.memory)}
        for key in attached.keys - fresh.keys():
            self._threads.delete(key)
        attached.keys = set(fresh)
        if fresh:
            self._threads.update_many(b"".join(fresh), b"".join(fresh.values()))

    def gone(self, pid: int) -> None:
        """Forget a process that ended or execed; its names stay."""
        if pid in self._refused:
            self._refused.remove(pid)
            self._procs.delete(_PID.pack(pid))
        attached = self._by_pid.pop(pid, None)
        if attached is None:
            return
        attached.memory.close()
        with self._lock:
            self._namers.pop(Generation(0, 0, pid), None)
        self._procs.delete(_PID.pack(pid))
        for key in attached.keys:
            self._threads.delete(key)

    def namer(self, generation: Generation) -> PythonFrames | None:
        """Find what names the Python frames of a process."""
        with self._lock:
            found = self._namers.get(generation)
            if found is None and (found := self._namers.pop(generation.before, None)):
                self._namers[generation] = found
            return found


def _interpreter_of(space: Space) -> Mapping | None:
    for mapping in space.mappings:
        if mapping.loaded is not None and mapping.loaded.interpreter is not None:
            return mapping
    return None
