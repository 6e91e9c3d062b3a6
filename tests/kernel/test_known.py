# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a thread of ours shows of offsets that may be wrong."""

import os
import struct

import pytest

from otelagent.errors import MissingFeature
from otelagent.kernel import calibration, known
from otelagent.kernel.calibration import Tick
from otelagent.kernel.known import Known, find_contradictions, first, look_here, read_start_ticks

TRUE = {
    "task_stack": 32,
    "task_mm": 64,
    "task_pid": 80,
    "task_tgid": 84,
    "task_group_leader": 96,
    "task_start_boottime": 120,
    "task_self_exec_id": 136,
    "task_tls": 144,
}
TASK, MM, TLS = 0xFFFF_8880_0000_1000, 0xFFFF_8882_0000_0000, 0x7F00_0000_1000
NS_PER_TICK = 10**9 // os.sysconf("SC_CLK_TCK")


@pytest.fixture
def thread(monkeypatch):
    monkeypatch.setattr(calibration.platform, "machine", lambda: "x86_64")
    task = bytearray(range(200))
    struct.pack_into("=Q", task, 32, 0xFFFF_C900_0000_0000)
    struct.pack_into("=QQII", task, 64, MM, MM, 8, 7)
    struct.pack_into("=Q", task, 96, TASK)
    struct.pack_into("=QQQQ", task, 120, 500 * NS_PER_TICK + 3, 5, 6, TLS)
    return Known(Tick(8, 7, TASK, 0xFFFF_C900_0000_3F58, b"", bytes(task)), 500, TLS)


def test_true_offsets_contradict_nothing(thread):
    assert find_contradictions(thread, TRUE) == []


@pytest.mark.parametrize("name", TRUE)
def test_each_wrong_offset_is_noticed(thread, name):
    assert find_contradictions(thread, TRUE | {name: 168}) == [name]


def test_what_lies_beyond_the_copy_is_not_judged(thread):
    assert find_contradictions(thread, dict.fromkeys(TRUE, 4096)) == []


def test_nothing_seen_is_a_missing_source():
    with pytest.raises(MissingFeature, match="never saw"):
        first([])


def test_the_start_time_is_read_behind_any_name(tmp_path):
    (tmp_path / "stat").write_text("7 (a) b) c) S " + " ".join(map(str, range(4, 53))))

    assert read_start_ticks(tmp_path / "stat") == 22


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("monotonic 0 0\nboottime 0 0\n", 0),
        ("monotonic 9 0\nboottime 86400 500000000\n", 86400.5),
        ("boottime -2 0\n", -2),
    ],
)
def test_a_time_namespace_is_taken_out(monkeypatch, tmp_path, text, ticks):
    monkeypatch.setattr(known, "_TIME_NAMESPACE", tmp_path / "offsets")
    assert known.boottime_shift_ticks() == 0

    (tmp_path / "offsets").write_text(text)

    assert known.boottime_shift_ticks() == ticks * os.sysconf("SC_CLK_TCK")


def test_this_thread_is_known_by_its_stat_file_and_tls(thread):
    seen = look_here(lambda: [thread.tick])

    assert seen.tick is thread.tick
    assert seen.start_ticks > 0
    assert seen.tls > 0
