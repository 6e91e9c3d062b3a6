# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Typed BPF maps: keys and values are bytes, or anything with a buffer (cffi structs).

    processes = HashMap.of(bpf_object, "processes")
    processes[struct.pack("=I", pid)] = bytes(ffi.buffer(process))

The `_many` calls take many keys in one piece and cost Python one call; the C
core uses the kernel's batch operations where this kind of map has them. Maps
may be used by any thread; the object that made them must outlive them.
"""

from __future__ import annotations

import errno
import mmap
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

from otelagent._native import ffi, lib
from otelagent.bpf.object import MapInfo
from otelagent.bpf.reasons import describe, hint_for
from otelagent.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.bpf.object import BpfObject

Buffer = bytes | bytearray | memoryview | Any
"""Bytes, or cdata that owns its memory (`ffi.new`)."""

_U32 = struct.Struct("=I")
BPF_F_MMAPABLE = 1 << 10
"""include/uapi/linux/bpf.h"""


class MapType(IntEnum):
    """`enum bpf_map_type`, include/uapi/linux/bpf.h."""

    HASH = 1
    ARRAY = 2
    LPM_TRIE = 11
    RINGBUF = 27


ANY, NOEXIST, EXIST = 0, 1, 2
"""Flags of an update, include/uapi/linux/bpf.h."""


def _cdata(value: Buffer) -> Any:  # noqa: ANN401
    """Let C see `value` without a copy."""
    return value if isinstance(value, ffi.CData) else ffi.from_buffer(value)


def _bytes_of(value: Buffer) -> int:
    if not isinstance(value, ffi.CData):
        return len(value)
    kind = ffi.typeof(value)
    return int(ffi.sizeof(kind.item if kind.kind == "pointer" else value))


class _Map:
    """What all maps share."""

    def __init__(self, info: MapInfo) -> None:
        self.info = info
        self.fd = info.fd

    @classmethod
    def of(cls, owner: BpfObject, name: str) -> Self:
        """Find a map of a loaded object by its C name."""
        return cls(owner.map_info(name))

    def _check(self, error: int, doing: str) -> None:
        if error < 0:
            message = f"cannot {doing} BPF map {self.info.name}: {describe(error)}"
            raise KernelError(message, hint=hint_for(error))

    @property
    def value_bytes(self) -> int:
        """Bytes of what one look-up returns."""
        return self.info.value_size

    def _lookup(self, key: Buffer) -> bytes | None:
        self._expect(key, self.info.key_size, "key")
        value = ffi.new("char[]", self.value_bytes)
        error = lib.oa_map_lookup(self.fd, _cdata(key), value)
        if error == -errno.ENOENT:
            return None
        self._check(error, "read")
        return bytes(ffi.buffer(value))

    def _update(self, key: Buffer, value: Buffer, flags: int = ANY) -> None:
        self._expect(key, self.info.key_size, "key")
        self._expect(value, self.value_bytes, "value")
        self._check(lib.oa_map_update(self.fd, _cdata(key), _cdata(value), flags), "write to")

    def _expect(self, value: Buffer, size: int, what: str) -> None:
        # The kernel reads as many bytes as the map says, whatever we hold.
        if _bytes_of(value) != size:
            message = f"BPF map {self.info.name}: a {what} has {size} bytes, not {_bytes_of(value)}"
            raise ValueError(message)


class HashMap(_Map):
    """A hash map, as a mapping of bytes."""

    def get(self, key: Buffer) -> bytes | None:
        """Look a key up."""
        return self._lookup(key)

    def __getitem__(self, key: Buffer) -> bytes:
        value = self._lookup(key)
        if value is None:
            raise KeyError(bytes(ffi.buffer(_cdata(key))))
        return value

    def __setitem__(self, key: Buffer, value: Buffer) -> None:
        self._update(key, value)

    def update(self, key: Buffer, value: Buffer, flags: int = ANY) -> None:
        """Write an entry; KernelError where `flags` (NOEXIST, EXIST) do not hold or it is full."""
        self._update(key, value, flags)

    def delete(self, key: Buffer) -> bool:
        """Delete a key; False if it was not there."""
        self._expect(key, self.info.key_size, "key")
        error = lib.oa_map_delete(self.fd, _cdata(key))
        if error == -errno.ENOENT:
            return False
        self._check(error, "delete from")
        return True

    def update_many(self, keys: Buffer, values: Buffer, flags: int = ANY) -> None:
        """Write entries: keys one behind the other, values likewise."""
        count = self._count(keys)
        self._expect(values, count * self.info.value_size, "list of values")
        done = ffi.new("u32 *")
        sizes = (self.info.key_size, _cdata(values), self.info.value_size)
        error = lib.oa_map_update_many(self.fd, _cdata(keys), *sizes, count, flags, done)
        self._check(error, f"write entry {done[0]} of {count} to")

    def delete_many(self, keys: Buffer) -> int:
        """Delete keys (one behind the other); returns how many were there."""
        count = self._count(keys)
        deleted = lib.oa_map_delete_many(self.fd, _cdata(keys), self.info.key_size, count)
        self._check(deleted, "delete from")
        return int(deleted)

    def _count(self, keys: Buffer) -> int:
        count, rest = divmod(_bytes_of(keys), self.info.key_size)
        if rest:
            raise ValueError(f"BPF map {self.info.name}: keys have {self.info.key_size} bytes each")
        return count

    def items(self) -> list[tuple[bytes, bytes]]:
        """Read all entries; one that comes or goes meanwhile may be missed or seen twice."""
        key_size, value_size, most = self.info.key_size, self.value_bytes, self.info.max_entries
        keys = ffi.new("char[]", key_size * most)
        values = ffi.new("char[]", value_size * most)
        got = lib.oa_map_items(self.fd, keys, key_size, values, value_size, most)
        self._check(got, "read")
        return [
            (
                ffi.buffer(keys + at * key_size, key_size)[:],
                ffi.buffer(values + at * value_size, value_size)[:],
            )
            for at in range(got)
        ]


class LpmTrie(HashMap):
    """A longest-prefix trie; a key begins with its prefix length in bits (host order u32)."""


class Mapped:
    """Memory of an array shared with BPF: `buffer` for Python, `pointer` for C.

    Closing it makes both invalid. A plain aligned 8-byte store is seen by BPF whole.
    """

    def __init__(self, fd: int, size: int, *, writable: bool = True) -> None:
        error = ffi.new("s32 *")
        self.pointer = lib.oa_map_mmap(fd, size, writable, error)
        self.bytes = size
        if error[0]:
            raise KernelError(f"cannot map a BPF array into memory: {describe(error[0])}")
        self.buffer = memoryview(ffi.buffer(self.pointer, size))

    def close(self) -> None:
        """Give the memory back."""
        if self.pointer is not None:
            self.buffer.release()
            lib.oa_munmap(self.pointer, self.bytes)
            self.pointer = None


class ArrayMap(_Map):
    """An array, by index."""

    def __getitem__(self, index: int) -> bytes:
        value = self._lookup(_U32.pack(index))
        if value is None:
            raise IndexError(index)
        return value

    def __setitem__(self, index: int, value: Buffer) -> None:
        self._update(_U32.pack(index), value)

    def __len__(self) -> int:
        return self.info.max_entries

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(self.info.max_entries))

    @property
    def stride(self) -> int:
        """Bytes from one element to the next in mapped memory."""
        return (self.info.value_size + 7) & ~7

    def mmap(self, *, writable: bool = True) -> Mapped:
        """Share the array's memory; it must have been made with BPF_F_MMAPABLE."""
        return Mapped(self.fd, array_bytes(self.stride, len(self)), writable=writable)


def array_bytes(stride: int, entries: int) -> int:
    """Bytes of an array's memory: whole pages."""
    return -(-stride * entries // mmap.PAGESIZE) * mmap.PAGESIZE


class FdArray(_Map):
    """An array of programs, maps or cgroups, written by file descriptor."""

    def __setitem__(self, index: int, fd: int) -> None:
        self._update(_U32.pack(index), _U32.pack(fd))

    def __delitem__(self, index: int) -> None:
        error = lib.oa_map_delete(self.fd, _cdata(_U32.pack(index)))
        if error != -errno.ENOENT:
            self._check(error, "delete from")


class ProgArray(FdArray):
    """A table of tail calls: index → file descriptor of a loaded program."""


class OwnMap(_Map):
    """A map that no object declares; it owns its file descriptor."""

    def close(self) -> None:
        """Give the file descriptor back; an outer map and mapped memory keep the map alive."""
        if self.fd >= 0:
            lib.oa_close(self.fd)
            self.fd = -1


class OwnHashMap(HashMap, OwnMap):
    """A hash map or trie that we made."""


class InnerArray(ArrayMap, OwnMap):
    """An array that we made."""

    @classmethod
    def create(cls, name: str, value_size: int, entries: int) -> InnerArray:
        """Make a mmapable array. The kernel keeps 15 letters of the name."""
        return cls(create_map(MapType.ARRAY, name, (4, value_size, entries), BPF_F_MMAPABLE))


def create_map(kind: MapType, name: str, sizes: tuple[int, int, int], flags: int = 0) -> MapInfo:
    """Make a map of (key size, value size, entries); the caller closes its descriptor.

    Raises:
        KernelError: The kernel refuses.
    """
    fd = int(lib.oa_map_create(kind, name.encode()[:15], *sizes, flags))
    if fd < 0:
        message = f"cannot make BPF {kind.name} map {name}: {describe(fd)}"
        raise KernelError(message, hint=hint_for(fd))
    return MapInfo(name, fd, kind, *sizes, flags)


class ArrayOfMaps(FdArray):
    """An array of mmapable arrays.

    Changing an element takes the kernel some 10 ms (it waits for all CPUs).
    """

    def create_inner(self, index: int, value_size: int, entries: int) -> InnerArray:
        """Make an array and put it in place `index`; sizes as the object declares them."""
        inner = InnerArray.create(f"{self.info.name[:11]}_{index}", value_size, entries)
        try:
            self[index] = inner.fd
        except KernelError:
            inner.close()
            raise
        return inner


def has_batch_operations(of: HashMap) -> bool:
    """Tell whether the kernel has batch look-ups for this kind of map."""
    return bool(lib.oa_map_has_batch(of.fd, of.info.key_size, of.info.value_size))
