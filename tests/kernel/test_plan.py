# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is asked for, as BPF reads it, and the sizes of its maps."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from otelagent._native import ffi
from otelagent.abi._generated import Limit, TargetMode, Unwinder
from otelagent.bpf.object import possible_cpus
from otelagent.errors import LoadFailed
from otelagent.kernel import plan
from otelagent.kernel.plan import Plan, Wish, load, load_unwinder, make_config
from otelagent.kernel.switches import load_switches

OFFSETS = SimpleNamespace(config_fields=lambda: {"task_pid": 1256, "user_regs_distance": 16216})


def config(**wish):
    return ffi.from_buffer(
        "struct oa_config *",
        make_config(
            Wish(**{"frequency_hz": 99, "everything": False, "max_frames": 128} | wish), OFFSETS
        ),
    )


def test_config_has_the_wish_and_the_offsets():
    made = config(cgroups=2, idle=True, known_sets=512)

    assert made.period_weight == 1_000_000_000 // 99
    assert (made.target_mode, made.cgroups, made.idle) == (TargetMode.SET, 2, 1)
    assert (made.max_user_frames, made.known_sets) == (128, 512)
    assert (made.self_pid, made.cpus) == (os.getpid(), possible_cpus())
    assert (made.task_pid, made.user_regs_distance) == (1256, 16216)
    assert made.wake_bytes == (4 << 20) // 4
    assert config(everything=True).target_mode == TargetMode.ALL


class FakeObject:
    """Notes what `load` does to the object."""

    path = Path("profiler.bpf.o")

    def __init__(self, fails=False):
        self.sizes, self.autoload, self.variables = {}, {}, {}
        self.fails = fails
        self.shared, self.log_level = {}, 0
        self.is_loaded = self.is_closed = False

    def set_variable(self, name, value):
        assert not self.is_loaded
        self.variables[name] = value

    def set_autoload(self, name, wanted):
        self.autoload[name] = wanted

    def set_max_entries(self, name, entries):
        assert not self.is_loaded
        self.sizes[name] = entries

    def programs(self):
        forms = ("unwind_native", "unwind_python", "unwind_stop")
        return ["on_cpu_tick", *forms, *(f"{each}_loop" for each in forms)]

    def maps(self):
        return ["states", "unwinders", "waits", "targets", "offcpu.rodata"]

    def use_map(self, name, owner):
        assert not self.is_loaded
        self.shared[name] = owner

    def want_log(self, level):
        assert not self.is_loaded
        self.log_level = level

    def load(self):
        if self.fails:
            raise LoadFailed("no")
        self.is_loaded = True

    def program(self, name):
        assert self.autoload.get(name, True)
        return SimpleNamespace(fd=hash(name) & 0xFFFF)

    def close(self):
        self.is_closed = True


@pytest.fixture
def loaded(monkeypatch):
    def go(has_loop=True, fails=False, **wish):
        fake, table = FakeObject(fails), {}
        monkeypatch.setattr(plan.BpfObject, "open", lambda _path: fake)
        monkeypatch.setattr(plan.ProgArray, "of", lambda _bpf, _name: table)
        wish = Wish(**{"frequency_hz": 99, "everything": False, "max_frames": 128} | wish)
        try:
            assert load(Plan(wish, OFFSETS, has_loop)) is fake
        except LoadFailed:
            assert fails
        return fake, table

    return go


@pytest.mark.parametrize("has_loop", [True, False])
def test_one_flavour_of_each_unwinder_is_loaded_and_called_but_those_of_runtimes(loaded, has_loop):
    fake, table = loaded(has_loop)

    for name in ("unwind_native", "unwind_stop"):
        assert fake.autoload[name] is not has_loop
        assert fake.autoload[f"{name}_loop"] is has_loop
    assert not fake.autoload["unwind_python"]
    assert not fake.autoload["unwind_python_loop"]
    assert set(table) == {Unwinder.NATIVE, Unwinder.STOP}


@pytest.mark.parametrize("has_loop", [True, False])
def test_the_unwinder_of_a_runtime_comes_later_and_alone(loaded, monkeypatch, has_loop):
    profiler, table = loaded(has_loop)
    fake = FakeObject()
    monkeypatch.setattr(plan.BpfObject, "open", lambda path: fake if path == fake.path else None)
    wish = Wish(99, everything=False, max_frames=128)

    assert load_unwinder(Plan(wish, OFFSETS, has_loop), Unwinder.PYTHON, profiler) is fake

    wanted = "unwind_python_loop" if has_loop else "unwind_python"
    assert {name for name, on in fake.autoload.items() if on} == {wanted}
    assert set(fake.autoload) == set(fake.programs())
    assert fake.variables == profiler.variables
    assert fake.shared == dict.fromkeys(("states", "unwinders", "waits", "targets"), profiler)
    assert not fake.sizes
    assert table[Unwinder.PYTHON] == fake.program(wanted).fd


def test_an_unwinder_that_is_refused_is_closed_and_not_called(loaded, monkeypatch):
    profiler, table = loaded()
    fake = FakeObject(fails=True)
    monkeypatch.setattr(plan.BpfObject, "open", lambda _path: fake)
    wish = Wish(99, everything=False, max_frames=128)

    with pytest.raises(LoadFailed):
        load_unwinder(Plan(wish, OFFSETS, has_loop=True), Unwinder.PYTHON, profiler)

    assert fake.is_closed
    assert Unwinder.PYTHON not in table


def test_maps_have_the_sizes_of_the_wish(loaded):
    fake, _ = loaded(processes=100, mappings=200, pages=300, ring_bytes=1 << 16, known_sets=64)

    sizes = fake.sizes
    assert sizes["processes"] == sizes["targets"] == 100
    assert (sizes["mappings"], sizes["pages"], sizes["rules"]) == (200, 300, Limit.MAX_RULES)
    assert (sizes["events"], sizes["known_traces"]) == (1 << 16, 64)
    assert sizes["states"] == sizes["deferred_stacks"] == possible_cpus()


def test_what_follows_waits_is_opened_as_the_profiler_is(loaded, monkeypatch):
    profiler, _ = loaded(log_level=2)
    fake = FakeObject()
    monkeypatch.setattr(plan.BpfObject, "open", lambda _path: fake)
    wish = Wish(99, everything=False, max_frames=128, log_level=2, waits=64)

    load_switches(Plan(wish, OFFSETS, has_loop=True), profiler)

    assert fake.log_level == profiler.log_level == 2
    assert fake.variables == profiler.variables
    assert fake.shared == {"targets": profiler}
    assert fake.sizes == {
        "states": possible_cpus(),
        "deferred_stacks": possible_cpus(),
        "waits": 64,
    }


def test_object_that_is_refused_is_closed(loaded):
    fake, _ = loaded(fails=True)

    assert fake.is_closed
