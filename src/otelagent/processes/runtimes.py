# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Interpreters in processes: facts into the maps of their unwinders, names out.

Where an interpreter keeps things follows from its file and from where that is
mapped, so BPF knows an address space's interpreter before it can meet its
code there, and forks have their parent's. The threads of a process are read
whenever BPF meets one whose state is not known.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from otelagent import log, metrics
from otelagent.abi.codec import Generation, PythonCopies
from otelagent.errors import AgentError, ProcessGone, TargetError
from otelagent.host.memory import ProcessMemory
from otelagent.interpreters import registry
from otelagent.interpreters.python.frames import Family, PythonFrames
from otelagent.interpreters.python.layout import Layout, find_layout
from otelagent.interpreters.python.process import PythonProcess
from otelagent.log import fields
from otelagent.processes.python_files import FileMemory
from otelagent.protocols import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.bpf.maps import HashMap
    from otelagent.processes.executables import Loaded
    from otelagent.processes.spaces import Mapping, Space

logger = logging.getLogger(__name__)
_U32 = struct.Struct("=I")
_KEY = struct.Struct("=QII")  # struct oa_python_thread_key
REFRESH_NS = 20_000_000
"""Threads of one process are read again at most this often."""
MAX_PROCESSES = 4096
MAX_FREED = 1024
"""Spaces that are kept for the names of what was sampled in them: each takes some KB,"""
FREED_NS = 60_000_000_000
"""And so long: a sample that comes later is counted as one whose process was gone."""


class ClosableMemory(Memory, Protocol):
    """Memory of a process that may hold a file open."""

    def close(self) -> None:
        """Give the file back."""
        ...


@dataclass(slots=True)
class _Image:
    """The interpreter of an address space; `runtime` is None if it cannot be unwound."""

    loaded: Loaded
    bias: int
    runtime: PythonProcess | None
    family: Family = field(default_factory=Family)
    elder_pid: int = 0

    def is_mapping(self, mapping: Mapping) -> bool:
        return mapping.loaded is self.loaded and mapping.bias == self.bias


@dataclass(slots=True)
class _Threads:
    generation: Generation
    memory: ClosableMemory
    keys: set[bytes] = field(default_factory=set)
    next_refresh_ns: int = 0


class Runtimes:
    """The only writer of `python_procs`, and with BPF of `python_threads`.

    `open_memory` gives the memory of a process, by pid.

    `namer`, `early_namer` and `keep_namers` may be called from any thread, the rest by the
    processes thread.
    """

    def __init__(
        self,
        procs: HashMap,
        threads: HashMap,
        open_memory: Callable[[int], ClosableMemory] = ProcessMemory,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._open_memory = open_memory
        self._clock_ns = clock_ns
        self._procs = procs
        self._threads = threads
        self._images: dict[int, _Image] = {}
        self._freed: deque[tuple[int, int]] = deque()
        self._by_pid: dict[int, _Threads] = {}
        self._namers: dict[Generation, PythonFrames] = {}
        self._lock = threading.Lock()

    def mapped(self, space: Space, mapping: Mapping) -> None:
        """An interpreter's file is about to be mapped: the first one of a space counts."""
        image = self._images.get(space.number)
        if image and (image.is_mapping(mapping) or any(map(image.is_mapping, space.mappings))):
            return
        assert mapping.loaded is not None  # noqa: S101 (anonymous memory is no interpreter)
        self._enter(space.number, _Image(mapping.loaded, mapping.bias, _attach(mapping)))

    def copied(self, old: int, new: int) -> None:
        """A process that shared a space gets its own."""
        if image := self._images.get(old):
            self._enter(new, image)

    def _enter(self, space: int, image: _Image) -> None:
        self._images[space] = image
        # Known and empty where it cannot be unwound.
        value = image.runtime.value() if image.runtime else bytes(self._procs.info.value_size)
        try:
            self._procs[_U32.pack(space)] = value
        except AgentError as err:
            metrics.process_failed.add(reason="no room for its interpreter")
            log.once(logger, "python_procs", "a Python process is not unwound as one", error=err)

    def freed(self, space: int) -> None:
        """No process has this space any more; names of what was sampled in it stay."""
        if space not in self._images:
            return
        self._procs.delete(_U32.pack(space))
        now_ns = self._clock_ns()
        self._freed.append((now_ns, space))
        while len(self._freed) > MAX_FREED or self._freed[0][0] + FREED_NS < now_ns:
            self._images.pop(self._freed.popleft()[1], None)

    def forked(self, pid: int, space: Space) -> None:
        """A process has a child that shares its space: it can tell what the child's code is."""
        image = self._images.get(space.number)
        if image and image.runtime and image.elder_pid != pid:
            image.elder_pid = pid
            image.family.elder = PythonFrames(image.runtime.layout, self._open_memory(pid))

    def prepare(self, pid: int, space: Space, now_ns: int) -> None:
        """Read threads before the first sample, which will tell which life this is."""
        self.met(Generation(0, 0, pid), space, now_ns)

    def met(self, generation: Generation, space: Space, now_ns: int) -> None:
        """BPF met a process, or a thread of it, that it knows nothing of: read its threads."""
        image = self._images.get(space.number)
        if image is None or image.runtime is None:
            return
        known = self._by_pid.get(generation.pid)
        if known is not None and not known.generation.start_ns:
            known.generation = generation
        if known is None or known.generation != generation:
            self.gone(generation.pid)  # it has read of the image before
            known = _Threads(generation, self._open_memory(generation.pid))
            self._by_pid[generation.pid] = known
        if now_ns < known.next_refresh_ns:
            return
        known.next_refresh_ns = now_ns + REFRESH_NS
        try:
            self._refresh(known, image.runtime)
        except ProcessGone:
            return
        except AgentError as err:
            metrics.process_failed.add(reason=type(err).__name__)
            logger.info("%s", fields("threads not read", pid=generation.pid, error=err))

    def _refresh(self, known: _Threads, runtime: PythonProcess) -> None:
        pid = known.generation.pid
        fresh = {t.key_for(pid): t.value() for t in runtime.read_threads(known.memory)}
        for key in known.keys - fresh.keys():
            self._threads.delete(key)
        known.keys = set(fresh)
        if fresh:
            self._threads.update_many(b"".join(fresh), b"".join(fresh.values()))

    def thread_keys(self, pid: int) -> list[int]:
        """List what the interpreters of a process know its threads by (`PythonThread.key`)."""
        known = self._by_pid.get(pid)
        return [_KEY.unpack_from(key)[0] for key in known.keys] if known else []

    def gone(self, pid: int) -> None:
        """Forget the threads of a process that ended or execed; its names stay."""
        known = self._by_pid.pop(pid, None)
        if known is None:
            return
        known.memory.close()
        for key in known.keys:
            self._threads.delete(key)

    def namer(self, generation: Generation, space: int) -> PythonFrames | None:
        """Find what names the Python frames of a process that ran in an address space."""
        with self._lock:
            found = self._namers.get(generation)
            image = self._images.get(space)
            if image is None or image.runtime is None:
                return found
            if found is None or (found.family is None and found.layout != image.runtime.layout):
                found = self._make_namer(generation, image.runtime.layout)
            found.family = found.family or image.family
            return found

    def early_namer(self, copies: PythonCopies) -> PythonFrames | None:
        """Find what names the Python frames of a process whose mappings are not known yet.

        What BPF took the interpreter for is a guess; `namer` begins anew if it was wrong.
        """
        with self._lock:
            found = self._namers.get(copies.generation)
            if found is None:
                memory = self._open_memory(copies.generation.pid)
                try:
                    layout = find_layout(copies.minor, copies.interpreters, memory)
                except AgentError:  # it ended, or is something else; `namer` will tell
                    memory.close()
                    return None
                found = self._make_namer(copies.generation, layout, memory)
            return found

    def keep_namers(self, is_wanted: Callable[[Generation], bool]) -> None:
        """Forget what names the frames of all other processes; from any thread."""
        with self._lock:
            for each in [each for each in self._namers if not is_wanted(each)]:
                del self._namers[each]

    def _make_namer(
        self, generation: Generation, layout: Layout, memory: Memory | None = None
    ) -> PythonFrames:
        # A reader of its own: threads are read by another thread.
        made = PythonFrames(layout, memory or self._open_memory(generation.pid))
        self._namers[generation] = made
        if len(self._namers) > MAX_PROCESSES:
            del self._namers[next(iter(self._namers))]
        return made


def _attach(mapping: Mapping) -> PythonProcess | None:
    """Learn how to unwind an interpreter, from its file; None if that is not possible."""
    assert mapping.loaded is not None and mapping.loaded.interpreter is not None  # noqa: S101, PT018 (asked before)
    memory = FileMemory(mapping.loaded.elf, mapping.bias)
    try:
        runtime = registry.attach(mapping.loaded.interpreter, mapping.bias, memory)
        if not isinstance(runtime, PythonProcess):
            raise TargetError(f"no unwinder for {type(runtime).__name__}")
    except AgentError as err:
        metrics.process_failed.add(reason=type(err).__name__)
        logger.info(
            "%s", fields("interpreter skipped", file=mapping.loaded.executable.path, error=err)
        )
        return None
    return runtime
