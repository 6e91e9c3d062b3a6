# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Objects, maps, sampling events and the ring on this machine's kernel.

Only this process and its children are sampled.
"""

import collections
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.programs import ROOT, build
from otelagent._native import ffi
from otelagent.abi._generated import RecordKind, TargetMode, Unwinder
from otelagent.bpf.links import Rate, SamplingEvents, online_cpus, spin
from otelagent.bpf.maps import (
    ArrayMap,
    ArrayOfMaps,
    HashMap,
    InnerArray,
    LpmTrie,
    MapType,
    OwnHashMap,
    ProgArray,
    create_map,
)
from otelagent.bpf.object import BpfObject, object_path, possible_cpus
from otelagent.bpf.ring import Ring
from otelagent.errors import KernelError, LoadFailed, MissingFeature
from otelagent.kernel.features import has_feature
from otelagent.kernel.offsets import find_offsets

pytestmark = [pytest.mark.guest, pytest.mark.needs("bpf")]


@pytest.fixture
def hash_map():
    with_batch = OwnHashMap(create_map(MapType.HASH, "test", (4, 8, 1000)))
    yield with_batch
    with_batch.close()


@pytest.fixture(scope="module")
def offsets():
    return find_offsets()


@pytest.fixture
def profiler(offsets):
    """The profiler, loaded, with this process as its only target."""
    with BpfObject.open(object_path("profiler")) as owner:
        config = ffi.new("struct oa_config *")
        for name, value in offsets.config_fields().items():
            setattr(config, name, value)
        config.period_weight = 1
        config.target_mode = TargetMode.SET
        config.cpus = possible_cpus()
        config.known_sets = 1
        config.max_user_frames = 64
        config.deferred_per_second = 100
        config.deferred_burst = 100
        owner.set_variable("config", bytes(ffi.buffer(config)))
        for name in ("states", "deferred_stacks"):
            owner.set_max_entries(name, possible_cpus())
        for name in owner.programs():
            # Not used here, and what is verified takes time in guests.
            if name.endswith("_loop") or name == "unwind_python":
                owner.set_autoload(name, on=False)
        owner.load()
        HashMap.of(owner, "targets")[struct.pack("=I", os.getpid())] = struct.pack("=I", 1)
        yield owner


def test_no_program_comes_near_the_verifiers_limit():
    """All of them, in each way this kernel can walk; 6.19 needed more than a million once."""
    command = [sys.executable, ROOT / "tools/verifier.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"unwind_stop +\d+ instructions", done.stdout)
    assert "offcpu unwind_stop" in done.stdout


@pytest.mark.needs("tool:clang")
def test_a_refused_program_is_named_with_the_verifiers_reason():
    with BpfObject.open(build("refused.o")) as owner, pytest.raises(LoadFailed) as caught:
        owner.load()

    message = str(caught.value)
    assert "program on_bad_tick: Permission denied (EACCES)" in message
    assert "invalid mem access" in message
    assert "return *(volatile int *)task" in message
    assert len(message.splitlines()) <= 10


def test_many_entries_go_in_and_out_with_one_call(hash_map):
    keys = struct.pack("=500I", *range(500))
    hash_map.update_many(keys, struct.pack("=500Q", *range(500)))

    assert dict(hash_map.items()) == {
        struct.pack("=I", at): struct.pack("=Q", at) for at in range(500)
    }
    assert hash_map.delete_many(struct.pack("=502I", 1000, *range(500), 1001)) == 500
    assert hash_map.items() == []


def test_a_full_map_says_so(hash_map):
    with pytest.raises(KernelError, match="E2BIG"):
        hash_map.update_many(bytes(struct.pack("=2000I", *range(2000))), bytes(16_000))


def test_a_hash_map_is_a_mapping(hash_map):
    key = struct.pack("=I", 5)
    hash_map[key] = b"12345678"

    assert hash_map[key] == b"12345678"
    assert hash_map.delete(key)
    assert not hash_map.delete(key)
    assert hash_map.get(key) is None
    with pytest.raises(KeyError):
        _ = hash_map[key]


@pytest.mark.needs("lpm_trie")
def test_a_trie_finds_the_longest_prefix():
    trie = OwnHashMap(create_map(MapType.LPM_TRIE, "trie", (8, 4, 100), 1))
    keys = [struct.pack("=I", bits) + bytes([10, 1, 2, 0]) for bits in (8, 16, 24)]
    trie.update_many(b"".join(keys), struct.pack("=3I", 8, 16, 24))

    assert trie[struct.pack("=I", 32) + bytes([10, 1, 9, 9])] == struct.pack("=I", 16)
    assert sorted(value for _, value in trie.items()) == [
        struct.pack("=I", bits) for bits in (8, 16, 24)
    ]
    assert trie.delete_many(b"".join(keys)) == 3
    trie.close()


def test_memory_of_an_array_is_shared():
    array = InnerArray.create("shared", 8, 1000)
    mapped = array.mmap()
    mapped.buffer[999 * 8 : 1000 * 8] = b"12345678"

    assert array[999] == b"12345678"
    array[0] = b"abcdefgh"
    assert bytes(mapped.buffer[:8]) == b"abcdefgh"
    mapped.close()
    array.close()


def test_the_profiler_takes_chunks_programs_and_mappings(profiler):
    rows = ArrayOfMaps.of(profiler, "rows")
    chunk = rows.create_inner(3, 8, 262_144)
    mapped = chunk.mmap()

    assert len(mapped.buffer) == 2 << 20
    ProgArray.of(profiler, "unwinders")[0] = profiler.program("unwind_native").fd
    trie = LpmTrie.of(profiler, "mappings")
    key = ffi.new("struct oa_mapping_key *", (96, 1, 2))
    trie[key] = ffi.new("struct oa_mapping *")
    assert len(trie.items()) == 1
    mapped.close()
    chunk.close()


@pytest.mark.needs("cpu_clock", "ring_buffer")
def test_samples_of_this_process_come_through_the_ring(profiler):
    programs = ProgArray.of(profiler, "unwinders")
    programs[Unwinder.NATIVE] = profiler.program("unwind_native").fd
    programs[Unwinder.STOP] = profiler.program("unwind_stop").fd
    ring = Ring.open(profiler.map_info("events"))
    events = SamplingEvents(
        profiler.program("on_cpu_tick"), Rate(frequency_hz=1000), pid=os.getpid()
    )
    events.attach()
    spin(200)
    events.disable()

    assert ring.wait(1000)
    batch = ring.drain()

    kinds = {kind for kind, _ in batch.records()}
    # Nothing is known of this process: it is reported, and its stacks are deferred.
    assert {RecordKind.REPORT, RecordKind.DEFERRED} <= kinds
    assert batch.malformed == 0
    for kind, data in batch.records():
        if kind == RecordKind.DEFERRED:
            deferred = ffi.from_buffer("struct oa_deferred *", data)
            sample = deferred.trace.sample
            assert (sample.pid, sample.tid) == (os.getpid(), os.getpid())
            assert abs(sample.time_ns - time.monotonic_ns()) < 5 * 10**9
    ring.close()
    events.close()


@pytest.mark.needs("cpu_clock", "ring_buffer")
def test_deferred_stacks_come_in_a_burst_and_no_more(profiler):
    """100 of this process at once, and 100 more for each second; the others say why not."""
    programs = ProgArray.of(profiler, "unwinders")
    programs[Unwinder.STOP] = profiler.program("unwind_stop").fd
    ring = Ring.open(profiler.map_info("events"))
    began = time.monotonic()
    kinds = collections.Counter()
    events = SamplingEvents(
        profiler.program("on_cpu_tick"), Rate(frequency_hz=1000), pid=os.getpid()
    )
    events.attach()
    while not kinds[RecordKind.TRACE] and time.monotonic() < began + 20:
        spin(20)  # the ring holds some 60 of them
        kinds.update(kind for kind, _ in ring.drain().records())
    seconds = time.monotonic() - began
    events.close()
    ring.close()

    assert 100 <= kinds[RecordKind.DEFERRED] <= 100 * (seconds + 2)
    assert kinds[RecordKind.TRACE] > 0


@pytest.mark.needs("cpu_clock")
def test_events_follow_the_online_cpus_and_can_be_switched():
    with BpfObject.open(object_path("calibrate")) as owner:
        owner.load()
        ticks = ArrayMap.of(owner, "calibration_ticks")
        events = SamplingEvents(
            owner.program("on_calibration_tick"), Rate(period=500_000), pid=os.getpid()
        )
        events.enable(on=False)
        events.attach()
        assert events.cpus == online_cpus()
        events.refresh()
        before = ticks[0]  # attaching switches an event on for a moment: a slow machine sees it
        spin(20)
        assert ticks[0] == before

        events.enable()
        spin(50)

        assert ticks[0] != before
        events.close()


def test_a_missing_counter_is_a_missing_feature():
    if has_feature("cycles"):
        pytest.skip("this machine has a PMU")
    with BpfObject.open(object_path("calibrate")) as owner:
        owner.load()
        program = owner.program("on_calibration_tick")
        rate = Rate(frequency_hz=99, is_hardware=True)

        with pytest.raises(MissingFeature, match="cycles") as caught:
            SamplingEvents(program, rate, pid=os.getpid()).attach()

    assert "cpu-clock" in caught.value.hint


def test_nothing_stays_open():
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    def once():
        with BpfObject.open(object_path("calibrate")) as owner:
            owner.load()
            events = SamplingEvents(
                owner.program("on_calibration_tick"), Rate(period=10**6), pid=os.getpid()
            )
            events.attach()
            events.close()

    once()
    before = descriptors()
    once()
    assert descriptors() == before
