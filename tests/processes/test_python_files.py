# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Facts of CPython's files: written for BPF, kept from one recording to the next."""

import struct
from dataclasses import replace
from types import SimpleNamespace

import pytest

from otelagent.abi._generated import Unwinder
from otelagent.errors import UnsupportedRuntime
from otelagent.formats.elf import PT_DYNAMIC
from otelagent.interpreters.registry import FAMILIES, Detected
from otelagent.processes import python_files
from otelagent.processes.python_files import MAX_FILES, NAME, PythonFiles, decode, encode
from tests.processes.fakes import FakeMap, named

VALUE_BYTES = 56
PYTHON = Detected(FAMILIES[0], None, ())
OTHER = Detected(replace(FAMILIES[0], unwinder=Unwinder.NATIVE), None, ())


class Shelf(dict):
    """A directory in memory; counts what is written."""

    writes = 0

    def read(self, name):
        return self.get(name)

    def write(self, name, data):
        self.writes += 1
        self[name] = data


class World:
    def __init__(self, monkeypatch, shelf=None):
        self.shelf = Shelf() if shelf is None else shelf
        self.map = FakeMap(16, VALUE_BYTES)
        self.refusal = None
        monkeypatch.setattr(python_files.registry, "attach", self._attach)
        self.files = PythonFiles(self.map, self.shelf)

    def _attach(self, _detected, bias, _memory):
        assert bias == 0
        if self.refusal:
            raise self.refusal
        return SimpleNamespace(value=lambda: b"\1" * VALUE_BYTES)

    def learn(self, number, segment_type=PT_DYNAMIC, interpreter=PYTHON):
        segments = (SimpleNamespace(type=segment_type, vaddr=number),)
        elf = SimpleNamespace(segments=segments, sections_offset=7, soname="libpython3.so")
        self.files.learn(named(elf, interpreter))


def key(number):
    return struct.pack("=QQ", number, 7)


def test_a_file_is_known_to_bpf_now_and_in_the_next_recording(monkeypatch):
    world = World(monkeypatch)

    world.learn(5)

    assert world.map == {key(5): b"\1" * VALUE_BYTES}
    assert World(monkeypatch, world.shelf).map == world.map


def test_what_is_known_already_is_not_written_again(monkeypatch):
    world = World(monkeypatch)

    world.learn(5)
    world.learn(5)

    assert world.shelf.writes == 1


def test_the_file_learnt_longest_ago_makes_room(monkeypatch):
    world = World(monkeypatch)

    for number in range(MAX_FILES + 1):
        world.learn(number)

    assert len(world.map) == MAX_FILES
    assert key(0) not in world.map
    assert set(World(monkeypatch, world.shelf).map) == set(world.map)


def test_file_that_is_no_python_or_cannot_be_unwound_is_left_out(monkeypatch):
    world = World(monkeypatch)
    world.learn(1, segment_type=PT_DYNAMIC + 1)
    world.learn(2, interpreter=None)
    world.learn(4, interpreter=OTHER)
    world.refusal = UnsupportedRuntime("CPython 4.0")
    world.learn(3)

    assert world.map == {}
    assert world.shelf == {}


GOOD = encode({key(5): b"\1" * VALUE_BYTES})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        GOOD + b"x",
        b"x" + GOOD[1:],
        GOOD[:-1] + b"x",
        encode({key(5): b"\1" * (VALUE_BYTES + 8)}),
        encode({key(number): bytes(VALUE_BYTES) for number in range(MAX_FILES + 1)}),
    ],
)
def test_damaged_facts_are_not_read(monkeypatch, data):
    assert decode(GOOD, VALUE_BYTES)
    assert World(monkeypatch, Shelf({NAME: data})).map == {}
