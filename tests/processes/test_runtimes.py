# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Facts of interpreters enter their maps, are renewed, and leave with the process."""

import struct
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from otelagent.abi.codec import PythonCopies
from otelagent.errors import KernelError, MemoryFault, ProcessGone, UnsupportedRuntime
from otelagent.interpreters.python.frames import CodeObject
from otelagent.interpreters.python.layout import TABLE
from otelagent.interpreters.python.process import PythonProcess
from otelagent.interpreters.registry import FAMILIES, Detected
from otelagent.model import Function
from otelagent.processes import runtimes
from otelagent.processes.runtimes import REFRESH_NS, Runtimes
from otelagent.processes.spaces import Mapping, Spaces
from tests.processes.fakes import FakeMap, FakeTrie, generation

VALUE_BYTES = 72


@dataclass
class Thread:
    number: int

    def key_for(self, pid):
        return struct.pack("=QII", self.number, pid, 0)

    def value(self):
        return struct.pack("=QQQQ", self.number, 0, 0, 0)


class FakePython(PythonProcess):
    """An interpreter whose threads are what the test says."""

    def __init__(self, world):
        object.__setattr__(self, "world", world)

    layout = SimpleNamespace(lasti_scale=1, lines=None)

    def value(self):
        return b"\1" * VALUE_BYTES

    def read_threads(self, memory):
        self.world.reads += 1
        if isinstance(self.world.threads, Exception):
            raise self.world.threads
        return [Thread(number) for number in self.world.threads]


class Files:
    """Where mappings count what they hold."""

    def acquire(self, loaded):
        pass

    release = acquire


class World:
    def __init__(self, monkeypatch, most=1 << 30):
        self.threads, self.reads, self.attached = [1, 2], 0, []
        self.procs, self.thread_map = FakeMap(4, VALUE_BYTES, most), FakeMap(16, 32)
        self.now_ns = 0
        self.runtimes = Runtimes(self.procs, self.thread_map, clock_ns=lambda: self.now_ns)
        self.spaces = Spaces(FakeTrie(), Files(), interpreters=self.runtimes)
        self.space = self.spaces.make()
        self.refusal = None
        monkeypatch.setattr(runtimes.registry, "attach", self._attach)

    def _attach(self, detected, bias, _memory):
        if self.refusal:
            raise self.refusal
        self.attached.append((detected.build, bias))
        return FakePython(self)

    def map(self, space=None, loaded=None, bias=9):
        self.spaces.add(space or self.space, Mapping(4096, 8192, bias, loaded or PYTHON))

    def meet(self, pid=10, now_ns=0, **generations):
        self.runtimes.met(generation(pid, **generations), self.space, now_ns)

    @property
    def keys(self):
        return sorted(struct.unpack("=QII", key)[:2] for key in self.thread_map)


@dataclass(eq=False)
class File:
    interpreter: Detected | None
    key = 7
    keeps_frames = False
    elf = None
    executable = SimpleNamespace(path="python")


def python(version):
    return File(Detected(FAMILIES[0], version, ()))


PYTHON = python("3.11")
ATTACHED = b"\1" * VALUE_BYTES


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def space_key(space):
    return struct.pack("=I", space.number)


def test_interpreter_is_known_as_soon_as_it_is_mapped(world):
    """Before BPF can see its code: no report and no memory of the process is needed."""
    world.map()

    assert world.attached == [("3.11", 9)]
    assert world.procs == {space_key(world.space): ATTACHED}


def test_file_without_an_interpreter_is_left_alone(world):
    world.map(loaded=File(None))
    world.meet()

    assert not world.procs
    assert not world.keys
    assert world.runtimes.namer(generation(10), world.space.number) is None


def test_first_interpreter_of_a_space_counts_until_it_is_unmapped(world):
    world.map()
    world.spaces.add(world.space, Mapping(1 << 20, 2 << 20, 5, python("3.12")))
    assert world.attached == [("3.11", 9)]

    world.spaces.replace(world.space, [])
    world.spaces.add(world.space, Mapping(1 << 20, 2 << 20, 5, python("3.12")))

    assert world.attached == [("3.11", 9), ("3.12", 5)]


def test_process_that_gets_a_space_of_its_own_keeps_its_interpreter(world):
    world.map()

    own = world.spaces.own(world.spaces.share(world.space))

    assert world.procs == {space_key(world.space): ATTACHED, space_key(own): ATTACHED}
    assert len(world.attached) == 1


def test_space_that_nobody_has_leaves_the_map_and_its_names_stay(world):
    world.map()

    world.spaces.release(world.space)

    assert not world.procs
    assert world.runtimes.namer(generation(10), world.space.number)


def test_freed_spaces_are_forgotten_at_last(world, monkeypatch):
    monkeypatch.setattr(runtimes, "MAX_FREED", 2)
    spaces = [world.spaces.make() for _ in range(3)]
    for space in spaces:
        world.map(space)
        world.spaces.release(space)

    named = [world.runtimes.namer(generation(n), s.number) for n, s in enumerate(spaces)]

    assert [bool(namer) for namer in named] == [False, True, True]


def test_freed_spaces_are_forgotten_a_minute_later(world):
    """An agent that meets a new Python each few seconds would keep a thousand for hours."""
    spaces = [world.spaces.make() for _ in range(3)]
    for space in spaces:
        world.map(space)
        world.spaces.release(space)
        world.now_ns += 40_000_000_000

    named = [world.runtimes.namer(generation(n), s.number) for n, s in enumerate(spaces)]

    assert [bool(namer) for namer in named] == [False, True, True]


def test_interpreter_that_cannot_be_unwound_is_known_and_empty(world):
    """So BPF tells it from one that there was no room for."""
    world.refusal = UnsupportedRuntime("of another kind")

    world.map()
    world.meet()

    assert world.procs == {space_key(world.space): bytes(VALUE_BYTES)}
    assert world.reads == 0
    assert world.runtimes.namer(generation(10), world.space.number) is None


def test_full_map_costs_only_the_interpreter(monkeypatch):
    world = World(monkeypatch, most=0)

    world.map()

    assert not world.procs
    assert world.space.find(5000)


def test_threads_are_read_when_a_process_is_met(world):
    world.map()

    world.meet()
    world.meet(now_ns=1)

    assert world.reads == 1
    assert world.keys == [(1, 10), (2, 10)]


def test_threads_are_read_again_at_most_every_20_ms(world):
    world.map()

    for at in range(0, 3 * REFRESH_NS, REFRESH_NS // 10):
        world.meet(now_ns=at)

    assert world.reads == 3


def test_thread_that_ended_leaves_the_map(world):
    world.map()
    world.meet()
    world.threads = [2, 3]

    world.meet(now_ns=REFRESH_NS)

    assert world.keys == [(2, 10), (3, 10)]


def test_threads_of_the_next_image_take_the_place_of_the_old_ones(world):
    world.map()
    world.meet()
    world.threads = [5]

    world.meet(exec_id=2, now_ns=1)

    assert world.keys == [(5, 10)]


def test_process_that_ended_takes_its_threads_with_it(world):
    world.map()
    world.meet()

    world.runtimes.gone(10)
    world.runtimes.gone(10)

    assert not world.thread_map


@pytest.mark.parametrize("error", [MemoryFault(0x1000, 8), ProcessGone("gone"), KernelError("no")])
def test_threads_that_cannot_be_read_are_read_again(world, error):
    """They may change while they are read: one such moment is no reason to give up."""
    world.map()
    world.threads = error
    world.meet()
    assert not world.keys
    world.threads = [1]

    world.meet(now_ns=REFRESH_NS)

    assert world.keys == [(1, 10)]


def test_child_that_ended_too_soon_is_named_by_its_family(world, monkeypatch):
    """What no child could tell, the one that forked them can: it has the same code."""
    code = CodeObject(Function("f", file="f.py", start_line=1))
    asked = []

    def read(namer, _raw):
        asked.append(namer._memory.pid)
        return code if namer._memory.pid == 10 else CodeObject(None, problem="gone")

    monkeypatch.setattr(runtimes.PythonFrames, "read", read)
    monkeypatch.setattr("otelagent.interpreters.python.frames.find_line", lambda *_: 1)
    world.map()
    world.runtimes.forked(10, world.space)

    frame = world.runtimes.namer(generation(11), world.space.number).name(0x7000, 5)

    assert [line.function.name for line in frame.lines] == ["f"]
    assert asked == [11, 10]


def copies(minor=11, interpreters=1 << 20):
    return PythonCopies(generation(10), interpreters, minor, ())


def test_names_are_read_before_the_mappings_are_known(world, monkeypatch):
    early = world.runtimes.early_namer(copies())
    assert early.layout is TABLE[11]
    assert world.runtimes.early_namer(copies()) is early
    assert world.runtimes.namer(generation(10), world.space.number) is early

    monkeypatch.setattr(FakePython, "layout", TABLE[11])
    world.map()

    assert world.runtimes.namer(generation(10), world.space.number) is early
    assert early.family is not None


def test_guess_that_was_wrong_names_nothing_any_more(world, monkeypatch):
    monkeypatch.setattr(FakePython, "layout", TABLE[12])
    early = world.runtimes.early_namer(copies())
    world.map()

    namer = world.runtimes.namer(generation(10), world.space.number)

    assert namer is not early
    assert namer.layout is TABLE[12]
    assert world.runtimes.namer(generation(10), world.space.number) is namer


def test_interpreter_that_is_not_where_it_should_be_names_nothing(world):
    """From 3.13 on it says itself where it keeps things; this process is none that does."""
    assert world.runtimes.early_namer(copies(minor=14)) is None


def test_what_names_processes_that_nothing_needs_is_forgotten(world):
    early = world.runtimes.early_namer(copies())

    world.runtimes.keep_namers(lambda _generation: True)
    assert world.runtimes.early_namer(copies()) is early

    world.runtimes.keep_namers(lambda _generation: False)
    assert world.runtimes.early_namer(copies()) is not early
