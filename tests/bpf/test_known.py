# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""BPF's known traces, over memory like its maps'."""

import struct
from types import SimpleNamespace

from otelagent.abi._generated import Limit
from otelagent.bpf.btf import Btf
from otelagent.bpf.known import KnownTraces
from otelagent.bpf.object import object_path

SETS, CPUS = 4, 3
NEAR = 16


def memory(words):
    memory = SimpleNamespace(buffer=memoryview(bytearray(8 * words)), shared=0)
    memory.close = lambda: setattr(memory, "shared", memory.shared - 1)
    return memory


def sharing(memory):
    """Count who has it mapped."""
    memory.shared += 1
    return memory


def words(mapped):
    return {
        at: word[0] for at, word in enumerate(struct.iter_unpack("Q", mapped.buffer)) if word[0]
    }


def make():
    sets = memory(SETS * Limit.KNOWN_WAYS)
    stride = NEAR + Limit.NEAR_KNOWN * 8
    states = memory(CPUS * stride // 8)
    known = KnownTraces(
        lambda: sharing(sets), SETS, [states], [cpu * stride + NEAR for cpu in range(CPUS)]
    )
    return known, sets, states, stride // 8


def test_a_hash_is_cleared_wherever_it_is_and_others_stay():
    known, sets, states, stride = make()
    wanted, other = (7 << 40) | 2, (9 << 40) | 2
    at = 2 * Limit.KNOWN_WAYS
    for way, hash_ in ((0, other), (5, wanted)):
        struct.pack_into("Q", sets.buffer, (at + way) * 8, hash_)
    near = NEAR // 8 + 2
    for cpu, hash_ in ((0, wanted), (1, other), (2, wanted)):
        struct.pack_into("Q", states.buffer, (cpu * stride + near) * 8, hash_)

    known.forget([wanted, 12345])

    assert sets.shared == 0
    assert words(sets) == {at: other}
    assert words(states) == {stride + near: other}


def test_all_that_user_space_does_not_have_is_cleared_from_the_table():
    known, sets, states, _ = make()
    for way, hash_ in ((0, 5), (9, 6), (31, 7)):
        struct.pack_into("Q", sets.buffer, way * 8, hash_)
    struct.pack_into("Q", states.buffer, NEAR + 8, 5)

    known.keep({6})

    assert words(sets) == {9: 6}
    assert len(words(states)) == 1
    assert known.fill() == (1, SETS * Limit.KNOWN_WAYS)
    assert sets.shared == 0


def test_near_ones_are_cleared_alone():
    known, sets, states, _ = make()
    struct.pack_into("Q", sets.buffer, 8 * Limit.KNOWN_WAYS, 1)
    struct.pack_into("Q", states.buffer, NEAR + 8, 1)

    known.forget_near([1])

    assert words(states) == {}
    assert len(words(sets)) == 1


def test_the_object_says_where_they_are():
    with Btf.open(object_path("profiler")) as btf:
        assert btf.offset("oa_state", "near_known") > 0
