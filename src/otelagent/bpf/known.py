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
from contextlib import closing
from typing import TYPE_CHECKING

from otelagent.abi._generated import Limit
from otelagent.bpf.btf import Btf
from otelagent.bpf.maps import ArrayMap
from otelagent.bpf.object import object_path
from otelagent.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from otelagent.bpf.maps import Mapped
    from otelagent.bpf.object import BpfObject

_SET = struct.Struct(f"{Limit.KNOWN_WAYS}Q")
_HASH = struct.Struct("Q")


class KnownTraces:
    """What BPF takes for known. Any thread may use it.

    Args:
        share: Maps the map `known_traces` into memory. It is closed after each use: the kernel puts
            every page of a map in place when it is mapped, which makes 256 KiB.
        states: The memory of each map `states`.
        near_at: Where in each CPU's record its near ones begin.
    """

    def __init__(
        self,
        share: Callable[[], Mapped],
        set_count: int,
        states: Sequence[Mapped],
        near_at: list[int],
    ) -> None:
        self._share = share
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
        return cls(sets.mmap, len(sets), [states.mmap() for states in maps], places)

    def forget(self, hashes: Iterable[int]) -> None:
        """Let BPF send traces anew."""
        hashes = list(hashes)
        if hashes:
            with closing(self._share()) as sets:
                self._clear(sets.buffer, hashes)
        self.forget_near(hashes)

    def _clear(self, buffer: memoryview, hashes: Sequence[int]) -> None:
        for hash_ in hashes:
            at = (hash_ & self._mask) * _SET.size
            for way, known in enumerate(_SET.unpack_from(buffer, at)):
                if known == hash_:
                    _HASH.pack_into(buffer, at + way * _HASH.size, 0)

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
        with closing(self._share()) as sets:
            for at, hash_ in enumerate(self._list(sets)):
                if hash_ and hash_ not in hashes:
                    _HASH.pack_into(sets.buffer, at * _HASH.size, 0)

    def _list(self, sets: Mapped) -> tuple[int, ...]:
        return struct.unpack_from(f"{(self._mask + 1) * Limit.KNOWN_WAYS}Q", sets.buffer)

    def fill(self) -> tuple[int, int]:
        """Count the hashes in the table, and its room; from any thread."""
        with closing(self._share()) as sets:
            words = self._list(sets)
        return len(words) - words.count(0), len(words)

    def close(self) -> None:
        """Give the memory back."""
        for memory in self._states:
            memory.close()
