# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Deferred stacks: the host build of the unwinders over the very maps that BPF uses."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from otelagent._native import lib
from otelagent.abi._generated import Fault
from otelagent.abi.codec import decode_origin, decode_trace
from otelagent.bpf.maps import HashMap, LpmTrie
from otelagent.host.pointers import read_pac_mask
from otelagent.host.procfs import has_ended
from otelagent.unwind.host import HostUnwinder, Tables

if TYPE_CHECKING:
    from otelagent.bpf.maps import Mapped
    from otelagent.bpf.object import BpfObject
    from otelagent.processes.rowstore import RowStore
    from otelagent.processes.spaces import Space

_FOR_WANT_OF_CODE = {Fault.NO_ROW, Fault.UNSUPPORTED}
"""So ends a walk by frame pointers that cannot see the code before a return address."""
_U32 = struct.Struct("=I")
_PROCESS = struct.Struct("=QIIII")


class Maps(NamedTuple):
    """The kernel maps that are looked up in, by their names."""

    mappings: LpmTrie
    pages: HashMap
    python_procs: HashMap

    @classmethod
    def of(cls, bpf: BpfObject) -> Maps:
        """Get those of a loaded object."""
        mappings = LpmTrie.of(bpf, "mappings")
        return cls(mappings, HashMap.of(bpf, "pages"), HashMap.of(bpf, "python_procs"))


class DeferredFinisher:
    """Implements `Finisher`. Used by the processes thread, which alone writes the maps."""

    def __init__(self, maps: Maps, rules: Mapped, store: RowStore, max_frames: int) -> None:
        self._store = store
        self._tables = Tables()
        self._tables.use_map(lib.OA_HOST_MAPPINGS, maps.mappings)
        self._tables.use_map(lib.OA_HOST_PAGES, maps.pages)
        self._tables.use_map(lib.OA_HOST_PYTHON_PROCS, maps.python_procs)
        self._tables.use_rules(rules.pointer, rules.bytes)
        self._chunks = 0
        self._unwinder = HostUnwinder(
            self._tables, max_user_frames=max_frames, pac_mask=read_pac_mask(), follow_text=True
        )

    def unwind(self, deferred: bytes, space: Space | None, *, is_last: bool = False) -> bytes:
        """Walk a deferred stack with the code of an address space."""
        for mapped in self._store.chunk_pointers[self._chunks :]:
            self._tables.add_chunk(self._chunks, mapped.pointer, mapped.bytes)
            self._chunks += 1
        start_ns, exec_id, pid = decode_origin(deferred).generation
        value = _PROCESS.pack(start_ns, exec_id, pid, space.number if space else 0, 0)
        self._tables.update(lib.OA_HOST_PROCESSES, _U32.pack(pid), value)
        # A guess looks at the code before a return address, which stays while the stack does not.
        all_code = is_last and space is not None
        finished = self._walk(deferred, pid, all_code)
        if space and decode_trace(finished).fault in _FOR_WANT_OF_CODE and has_ended(pid):
            self._add_code(space)
            finished = self._walk(deferred, pid, all_code)
            self._tables.drop_memory()
        return finished

    def _walk(self, deferred: bytes, pid: int, all_code: bool) -> bytes:
        finished = self._unwinder.unwind(deferred, pid=pid, all_code=all_code)
        assert finished is not None  # noqa: S101 (the process was just made known)
        return finished

    def _add_code(self, space: Space) -> None:
        """Let code be read from the files that a process had mapped, since it is gone itself."""
        for mapping in space.mappings:
            start, size = mapping.start - mapping.bias, mapping.end - mapping.start
            if mapping.loaded and (found := mapping.loaded.code_at(start, size)):
                self._tables.add_file(mapping.start, *found)
