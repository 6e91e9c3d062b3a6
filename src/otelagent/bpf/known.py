# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The traces that BPF sends by their hash alone; what user space forgets must be sent anew.

BPF looks a hash up in two places: what each CPU found lately (`near_known` in its record,
`ebpf/state.h`) and the table `known_traces`. Both are cleared by plain stores. A program that
has just found a hash in the table may note it as near afterwards, so that near ones are
cleared once more, later. What is cleared by mistake, since BPF put another hash there in
between, costs one more record and nothing else.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from otelagent.abi._generated import Limit
from otelagent.bpf.btf import Btf
from otelagent.bpf.maps import ArrayMap
from otelagent.bpf.object import object_path
from otelagent.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from otelagent.bpf.maps import Mapped
    from otelagent.bpf.object import BpfObject

_SET = struct.Struct(f"{Limit.KNOWN_WAYS}Q")
_HASH = struct.Struct("Q")


class KnownTraces:
    """What BPF takes for known. Any thread may use it.

    Args:
        sets: The memory of the map `known_traces`.
        states: The memory of each map `states`.
        near_at: Where in each CPU's record its near ones begin.
    """

    def __init__(
        self, sets: Mapped, set_count: int, states: Sequence[Mapped], near_at: list[int]
    ) -> None:
        self._sets = sets
        self._mask = set_count - 1
        self._states = states
        self._near_at = near_at

    @classmethod
    def of(cls, bpf: BpfObject, *others: BpfObject) -> KnownTraces:
        """Share what a loaded profiler knows."""
        with Btf.open(object_path("profiler")) as btf:
            near = btf.offset("oa_state", "near_known")
        if near is None:
            raise KernelError("the BPF object is of another version")
        sets = ArrayMap.of(bpf, "known_traces")
        maps = [ArrayMap.of(each, "states") for each in (bpf, *others)]
        places = [cpu * maps[0].stride + near for cpu in range(len(maps[0]))]
        return cls(sets.mmap(), len(sets), [states.mmap() for states in maps], places)

    def forget(self, hashes: Iterable[int]) -> None:
        """Let BPF send traces anew."""
        hashes = list(hashes)
        buffer = self._sets.buffer
        for hash_ in hashes:
            at = (hash_ & self._mask) * _SET.size
            for way, known in enumerate(_SET.unpack_from(buffer, at)):
                if known == hash_:
                    _HASH.pack_into(buffer, at + way * _HASH.size, 0)
        self.forget_near(hashes)

    def forget_near(self, hashes: Iterable[int]) -> None:
        """Clear what CPUs noted while the table was being cleared."""
        for hash_ in hashes:
            slot = (hash_ & (Limit.NEAR_KNOWN - 1)) * _HASH.size
            for buffer in (states.buffer for states in self._states):
                for near_at in self._near_at:
                    if _HASH.unpack_from(buffer, near_at + slot)[0] == hash_:
                        _HASH.pack_into(buffer, near_at + slot, 0)

    def keep(self, hashes: Container[int]) -> None:
        """Clear all others: what BPF noted for itself (Python code that it has met), or was lost.

        It notes them again; a trace that is on its way comes twice.
        """
        buffer = self._sets.buffer
        words = memoryview(buffer).cast("B").cast("Q")[: (self._mask + 1) * Limit.KNOWN_WAYS]
        for at, hash_ in enumerate(words.tolist()):
            if hash_ and hash_ not in hashes:
                _HASH.pack_into(buffer, at * _HASH.size, 0)

    def fill(self) -> tuple[int, int]:
        """Count the hashes in the table, and its room; from any thread."""
        words = memoryview(self._sets.buffer).cast("B").cast("Q")
        room = (self._mask + 1) * Limit.KNOWN_WAYS
        return room - words[:room].tolist().count(0), room

    def close(self) -> None:
        """Give the memory back."""
        for memory in (self._sets, *self._states):
            memory.close()
