# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Facts of interpreters enter their maps, are renewed, and leave with the process."""

import struct
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from otelagent.errors import MemoryFault, ProcessGone
from otelagent.interpreters.python.process import PythonProcess
from otelagent.processes import runtimes
from otelagent.processes.runtimes import REFRESH_NS, Runtimes
from otelagent.processes.spaces import Mapping, Space
from tests.processes.fakes import FakeMap, generation

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

    layout = None

    def value(self):
        return b"\1" * VALUE_BYTES

    def read_threads(self, memory):
        self.world.reads += 1
        if isinstance(self.world.threads, Exception):
            raise self.world.threads
        return [Thread(number) for number in self.world.threads]


class World:
    def __init__(self, monkeypatch):
        self.threads, self.reads, self.attached = [1, 2], 0, []
        self.procs, self.thread_map = FakeMap(4, VALUE_BYTES), FakeMap(16, 32)
        self.runtimes = Runtimes(self.procs, self.thread_map)
        monkeypatch.setattr(runtimes.registry, "attach", self._attach)
        monkeypatch.setattr(runtimes, "PythonFrames", lambda *_: SimpleNamespace())

    def _attach(self, detected, bias, memory):
        self.attached.append((detected, bias, memory.pid))
        return FakePython(self)

    @property
    def keys(self):
        return sorted(struct.unpack("=QII", key)[:2] for key in self.thread_map)


SPACE = Space(1, [Mapping(0, 1, 7, None), Mapping(1, 2, 9, SimpleNamespace(interpreter="3.11"))])


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def pid_key(pid):
    return struct.pack("=I", pid)


def test_interpreter_is_attached_once_and_its_threads_are_known(world):
    world.runtimes.met(generation(10), SPACE, 0)
    world.runtimes.met(generation(10), SPACE, 1)

    assert world.attached == [("3.11", 9, 10)]
    assert world.procs == {pid_key(10): b"\1" * VALUE_BYTES}
    assert world.keys == [(1, 10), (2, 10)]
    assert world.runtimes.namer(generation(10))


def test_threads_are_read_again_at_most_every_20_ms(world):
    for at in range(0, 3 * REFRESH_NS, REFRESH_NS // 10):
        world.runtimes.met(generation(10), SPACE, at)

    assert world.reads == 3


def test_thread_that_ended_leaves_the_map(world):
    world.runtimes.met(generation(10), SPACE, 0)
    world.threads = [2, 3]

    world.runtimes.met(generation(10), SPACE, REFRESH_NS)

    assert world.keys == [(2, 10), (3, 10)]


def test_next_image_is_attached_anew(world):
    world.runtimes.met(generation(10), SPACE, 0)
    world.threads = [5]

    world.runtimes.met(generation(10, exec_id=2), SPACE, 1)

    assert len(world.attached) == 2
    assert world.keys == [(5, 10)]


def test_process_that_ended_leaves_the_maps_and_its_names_stay(world):
    world.runtimes.met(generation(10), SPACE, 0)

    world.runtimes.gone(10)
    world.runtimes.gone(10)

    assert not world.procs
    assert not world.thread_map
    assert world.runtimes.namer(generation(10))


def test_process_without_an_interpreter_is_left_alone(world):
    world.runtimes.met(generation(10), Space(1), 0)

    assert not world.procs
    assert world.runtimes.namer(generation(10)) is None


def test_threads_that_change_while_they_are_read_are_read_again(world):
    """One such moment is no reason to give the process up."""
    world.threads = MemoryFault(0x1000, 8)
    world.runtimes.met(generation(10), SPACE, 0)
    assert world.procs == {pid_key(10): b"\1" * VALUE_BYTES}

    world.threads = [1]
    world.runtimes.met(generation(10), SPACE, REFRESH_NS)

    assert world.keys == [(1, 10)]


def test_interpreter_that_cannot_be_read_is_known_and_empty_until_it_ends(world, monkeypatch):
    """So BPF does not ask for it again and again, but for the next one with this number."""

    def refuse(*_):
        raise MemoryFault(0x1000, 8)

    monkeypatch.setattr(runtimes.registry, "attach", refuse)
    world.runtimes.met(generation(10), SPACE, 0)
    assert world.procs == {pid_key(10): bytes(VALUE_BYTES)}

    world.runtimes.gone(10)

    assert not world.procs


def test_process_that_ends_while_it_is_read_is_no_failure(world):
    world.threads = ProcessGone("gone")

    world.runtimes.met(generation(10), SPACE, 0)

    assert world.procs == {pid_key(10): b"\1" * VALUE_BYTES}
