# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for BPF's maps, kept in the tables of the host build.

So the code that fills the maps for BPF (`table.py` and below) fills them for the
host's unwinders unchanged: no kernel is asked, and no privilege is needed.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from otelagent._native import ffi, lib
from otelagent.abi._generated import Limit
from otelagent.bpf.maps import ANY, ArrayOfMaps, HashMap, InnerArray, LpmTrie, Mapped, MapType
from otelagent.bpf.object import MapInfo
from otelagent.errors import KernelError

if TYPE_CHECKING:
    from otelagent.bpf.maps import Buffer
    from otelagent.unwind.host import Tables

_MAPPING = struct.Struct("=QQQQII")  # struct oa_mapping
_SPACE = struct.Struct(">I")
_NO_FD = -1


class HostHash(HashMap):
    """A hash map of the host; `which` is one of the `OA_HOST_…` numbers."""

    def __init__(self, tables: Tables, which: int, key_bytes: int, value_bytes: int) -> None:
        sizes = (key_bytes, value_bytes, 1 << 24)
        super().__init__(MapInfo(f"host {which}", _NO_FD, MapType.HASH, *sizes, 0))
        self._tables = tables
        self._which = which
        self._values: dict[bytes, bytes] = {}

    def _lookup(self, key: Buffer) -> bytes | None:
        return self._values.get(bytes(key))

    def _update(self, key: Buffer, value: Buffer, flags: int = ANY) -> None:  # noqa: ARG002
        self._expect(key, self.info.key_size, "key")
        self._expect(value, self.value_bytes, "value")
        self._values[bytes(key)] = bytes(value)
        try:
            self._tables.update(self._which, bytes(key), bytes(value))
        except ValueError as err:
            raise KernelError(str(err)) from err

    def delete(self, key: Buffer) -> bool:
        """Delete a key; False if it was not there."""
        if self._values.pop(bytes(key), None) is None:
            return False
        return self._tables.delete(self._which, bytes(key))

    def update_many(self, keys: Buffer, values: Buffer, flags: int = ANY) -> None:
        """Write entries: keys one behind the other, values likewise."""
        size, width = self.info.key_size, self.info.value_size
        for at in range(self._count(keys)):
            key = keys[at * size : (at + 1) * size]
            self._update(key, values[at * width : (at + 1) * width], flags)

    def delete_many(self, keys: Buffer) -> int:
        """Delete keys (one behind the other); returns how many were there."""
        size = self.info.key_size
        return sum(
            self.delete(keys[at * size : (at + 1) * size]) for at in range(self._count(keys))
        )

    def items(self) -> list[tuple[bytes, bytes]]:
        """List all entries."""
        return list(self._values.items())


@dataclass(slots=True)
class _Ranges:
    """Of one space: the range of each prefix, and how many prefixes a range has."""

    by_key: dict[bytes, bytes] = field(default_factory=dict)
    prefixes: Counter[bytes] = field(default_factory=Counter)


class HostRanges(LpmTrie):
    """The map `mappings`: a range is kept once, under however many prefixes it comes."""

    def __init__(self, tables: Tables) -> None:
        sizes = (16, _MAPPING.size, 1 << 24)
        super().__init__(MapInfo("mappings", _NO_FD, MapType.LPM_TRIE, *sizes, 0))
        self._tables = tables
        self._spaces: dict[int, _Ranges] = {}

    def update_many(self, keys: Buffer, values: Buffer, flags: int = ANY) -> None:  # noqa: ARG002
        """Add ranges; keys one behind the other, values likewise."""
        width = self.info.value_size
        for at in range(self._count(keys)):
            key = bytes(keys[at * 16 : (at + 1) * 16])
            value = bytes(values[at * width : (at + 1) * width])
            (number,) = _SPACE.unpack_from(key, 4)
            space = self._spaces.setdefault(number, _Ranges())
            if not space.prefixes[value]:
                self._add(number, value)
            space.prefixes[value] += key not in space.by_key
            space.by_key[key] = value

    def _add(self, space: int, value: bytes) -> None:
        mapping = ffi.new("struct oa_mapping *")
        ffi.memmove(mapping, value, _MAPPING.size)
        if lib.oa_host_add_mapping(self._tables.handle, space, mapping):
            raise KernelError("a mapping overlaps with another one")

    def delete_many(self, keys: Buffer) -> int:
        """Take ranges away, each with the last of its prefixes; returns how many were there."""
        gone = 0
        changed = set()
        for at in range(self._count(keys)):
            key = bytes(keys[at * 16 : (at + 1) * 16])
            (number,) = _SPACE.unpack_from(key, 4)
            space = self._spaces.get(number)
            value = space.by_key.pop(key, None) if space else None
            if space is None or value is None:
                continue
            gone += 1
            space.prefixes[value] -= 1
            if not space.prefixes[value]:
                del space.prefixes[value]
                changed.add(number)
        for number in changed:
            lib.oa_host_drop_space(self._tables.handle, number)
            for value in self._spaces[number].prefixes:
                self._add(number, value)
        return gone


class HostMemory(Mapped):
    """Memory of an array, of our own."""

    def __init__(self, size: int) -> None:
        self._data = ffi.new("u64[]", -(-size // 8))
        self.pointer: Any = ffi.cast("void *", self._data)
        self.bytes = size
        self.buffer = memoryview(ffi.buffer(self._data, size))

    def close(self) -> None:
        """Nothing is to be given back: unwinders may still look."""


class HostChunks(ArrayOfMaps):
    """The map of maps `rows`: each chunk is made known to the host when it is made."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(MapInfo("rows", _NO_FD, MapType.ARRAY, 4, 4, int(Limit.MAX_CHUNKS), 0))
        self._tables = tables

    def create_inner(self, index: int, value_size: int, entries: int) -> InnerArray:
        """Make a chunk of rows."""
        memory = HostMemory(value_size * entries)
        self._tables.add_chunk(index, memory.pointer, memory.bytes)
        inner: Any = SimpleNamespace(mmap=lambda: memory, close=lambda: None)
        return inner  # type: ignore[no-any-return]
