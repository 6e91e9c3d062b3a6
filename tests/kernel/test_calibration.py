# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import platform
import struct
from types import SimpleNamespace

import pytest

from otelagent._native import ffi
from otelagent.abi._generated import Limit
from otelagent.errors import MissingFeature
from otelagent.kernel import calibration
from otelagent.kernel.calibration import (
    Tick,
    find_regs_distance,
    is_plausible_distance,
    parse_tick,
)

STACK = 0xFFFF_C900_0000_0000


def tick(distance, stack=STACK, at=32):
    return Tick(8, 7, 1, stack + distance, b"", bytes(at) + struct.pack("=Q", stack) + bytes(64))


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: request.param)
    return request.param


def test_layout_matches_the_shared_header():
    seen = ffi.new("struct oa_calibration *")
    seen.task, seen.regs, seen.task_bytes, seen.regs_bytes = 1, 2, 1024, 168
    seen.tid, seen.pid = 8, 7
    seen.regs_copy[0] = seen.task_copy[0] = 9

    parsed = parse_tick(bytes(ffi.buffer(seen)))

    assert (parsed.task, parsed.regs, parsed.tid, parsed.pid) == (1, 2, 8, 7)
    assert (len(parsed.registers), len(parsed.task_copy)) == (168, 1024)
    assert parsed.registers[0] == parsed.task_copy[0] == 9


def test_user_mode_is_told_by_the_registers(machine):
    at, user, kernel = (17, 0x33, 0x10) if machine == "x86_64" else (33, 0x1000, 0x5)
    words = [0] * 34

    for value, is_user in ((user, True), (kernel, False)):
        words[at] = value
        assert Tick(0, 0, 0, 0, struct.pack("=34Q", *words), b"").is_user is is_user
    assert not Tick(0, 0, 0, 0, b"", b"").is_user


@pytest.mark.parametrize("distance", [0x3F58, 0x3F48, 0x7F58])
def test_distances_seen_on_kernels_are_plausible(monkeypatch, distance):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    assert is_plausible_distance(distance)
    assert find_regs_distance([tick(distance), tick(distance, STACK + 0x5000)], 32) == distance


@pytest.mark.parametrize("distances", [[], [0x3F50], [0x5F58], [0x3F58, 0x3F48], [-8, 0x3F58]])
def test_what_is_not_certain_is_refused(monkeypatch, distances):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    with pytest.raises(MissingFeature, match="user registers"):
        find_regs_distance([tick(distance) for distance in distances], 32)


def test_an_offset_outside_the_copy_is_no_answer():
    with pytest.raises(MissingFeature):
        find_regs_distance([tick(0x3F58)], 4096)


def test_slots_are_those_of_the_program():
    assert calibration.Limit.CALIBRATION_SLOTS == 8


def test_ticks_that_all_met_the_kernel_are_waited_out(monkeypatch):
    """On a loaded machine the first ones may come while we are in a system call."""
    slots = {"calibration_ticks": [bytes(4)], "calibrations": [b""] * Limit.CALIBRATION_SLOTS}
    rounds = []

    def spin(_ms):
        rounds.append(1)
        slots["calibration_ticks"][0] = Limit.CALIBRATION_SLOTS.to_bytes(4, "little")

    seen = SimpleNamespace
    monkeypatch.setattr(calibration, "spin", spin)
    monkeypatch.setattr(calibration, "open_sampling", lambda *_, **__: 3)
    monkeypatch.setattr(calibration.ArrayMap, "of", lambda _owner, name: slots[name])
    monkeypatch.setattr(calibration.BpfObject, "open", lambda _path: FakeObject())
    monkeypatch.setattr(calibration, "parse_tick", lambda _: seen(is_user=len(rounds) > 3))

    assert len(calibration.read_ticks()) == Limit.CALIBRATION_SLOTS
    assert len(rounds) == 4


class FakeObject:
    """An object whose program can be attached."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def load(self):
        return None

    def program(self, _name):
        return SimpleNamespace(attach_perf_event=lambda _fd: FakeObject())
