# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The BPF unwinders on the host: finish deferred stacks, unwind cores and fakes.

`ebpf/native.h` and `ebpf/python.h` are compiled unchanged into `otelagent._native`.
They see the same tables that BPF sees: the kernel's own maps (`Tables.use_map`),
or tables in memory (`HostTables`):

    tables = HostTables()
    tables.add_table(file_id, rows)
    tables.add_mapping(space=1, start=…, end=…, bias=…, file_id=file_id)
    tables.set_process(pid, start_ns, exec_id, space=1)
    trace_record = HostUnwinder(tables).unwind(deferred_record)

Tables and their unwinders are used by one thread.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from typing import TYPE_CHECKING, Any

from otelagent._native import ffi, lib
from otelagent.abi._generated import Limit, Row, Unwinder
from otelagent.unwind.rows import RULE_BYTES

if TYPE_CHECKING:
    from otelagent.bpf.maps import HashMap
    from otelagent.unwind.rows import RowTable

_PAGE_ENTRY = struct.Struct("=III")
_U32 = struct.Struct("=I")
_PAGE_KEY = struct.Struct("=QQ")
_PAGE = struct.Struct("=IIII")
_PROCESS = struct.Struct("=QIIII")


def _check(result: int, doing: str) -> int:
    """Turn -errno of a table into an error of the caller: a wrong size, an overlap."""
    if result < 0:
        raise ValueError(f"cannot {doing}: {os.strerror(-result)}")
    return result


class Tables:
    """What a host looks things up in; owns the C object and what it borrows."""

    def __init__(self) -> None:
        self.handle = ffi.gc(lib.oa_host_new(), lib.oa_host_free)
        if self.handle == ffi.NULL:
            raise MemoryError
        self._borrowed: dict[object, Any] = {}

    def add_memory(self, addr: int, data: bytes | memoryview) -> None:
        """Let unwinders read `data` at `addr`, after a copied stack and before a live process.

        Raises:
            ValueError: It is empty or overlaps with memory added before.
        """
        view = ffi.from_buffer(data)
        _check(lib.oa_host_add_memory(self.handle, addr, view, len(data)), "add memory")
        self._borrowed["memory", addr] = view

    def add_file(self, addr: int, fd: int, offset: int, size: int) -> None:
        """Let unwinders read `size` bytes of an open file, which stays the caller's, at `addr`.

        Raises:
            ValueError: It is empty or overlaps with memory added before.
        """
        _check(lib.oa_host_add_file(self.handle, addr, fd, offset, size), "add a file")

    def use_process(self, pid: int) -> None:
        """Let unwinders read everything of a live process: it is stopped. 0: none."""
        lib.oa_host_use_process(self.handle, pid, lib.OA_HOST_REACH_ALL)

    def note_reads(self, capacity: int) -> None:
        """Note what unwinders read from now on, up to a number of reads."""
        self._borrowed["reads"] = reads = ffi.new("struct oa_host_read[]", capacity)
        lib.oa_host_note_reads(self.handle, reads, capacity)

    def noted_reads(self) -> list[tuple[int, int]]:
        """List what was read since `note_reads`, as (address, bytes).

        Raises:
            ValueError: There was more than could be noted.
        """
        reads, count = self._borrowed["reads"], lib.oa_host_noted(self.handle)
        if count > len(reads):
            raise ValueError(f"{count} reads, and room for {len(reads)} of them")
        return [(reads[at].addr, reads[at].bytes) for at in range(count)]

    def drop_memory(self) -> None:
        """Forget the memory added."""
        lib.oa_host_drop_memory(self.handle)
        for key in [key for key in self._borrowed if isinstance(key, tuple) and key[0] == "memory"]:
            del self._borrowed[key]

    def add_chunk(self, index: int, pointer: Any, size: int) -> None:  # noqa: ANN401 (cdata)
        """Use `size` bytes of rows at `pointer` as chunk `index` of the pool."""
        _check(lib.oa_host_use_chunk(self.handle, index, pointer, size), "add a chunk of rows")
        self._borrowed["chunk", index] = pointer

    def use_rules(self, pointer: Any, size: int) -> None:  # noqa: ANN401 (cdata)
        """Use `size` bytes of rules at `pointer`."""
        _check(lib.oa_host_use_rules(self.handle, pointer, size), "use rules")
        self._borrowed["rules"] = pointer

    def delete(self, which: int, key: bytes) -> bool:
        """Delete an entry of a hash in memory; False if it was not there."""
        args = (self.handle, which, ffi.from_buffer(key), len(key))
        return not lib.oa_host_delete(*args)

    def use_map(self, which: int, source: HashMap) -> None:
        """Look up in a kernel map; `which` is one of the `OA_HOST_…` numbers."""
        sizes = (source.info.key_size, source.info.value_size)
        _check(lib.oa_host_use_fd(self.handle, which, source.fd, *sizes), "use a BPF map")

    def update(self, which: int, key: bytes, value: bytes) -> None:
        """Write an entry of a hash; `which` is one of the `OA_HOST_…` numbers."""
        args = (self.handle, which, ffi.from_buffer(key), len(key), ffi.from_buffer(value))
        _check(lib.oa_host_update(*args, len(value)), "write an entry")


class HostTables(Tables):
    """Tables in memory, for tests and cores."""

    def __init__(self) -> None:
        super().__init__()
        self._rules: dict[bytes, int] = {}
        self._rule_memory = ffi.new("struct oa_rule[]", Limit.MAX_RULES)
        self._chunks = 0
        self._chunk: Any = None
        self._free_from = int(Limit.CHUNK_ROWS)
        self.use_rules(self._rule_memory, 0)

    def set_process(self, pid: int, start_ns: int, exec_id: int, space: int) -> None:
        """Say which address space a process has, in which of its lives."""
        value = _PROCESS.pack(start_ns, exec_id, pid, space, 0)
        self.update(lib.OA_HOST_PROCESSES, _U32.pack(pid), value)

    def add_mapping(
        self,
        space: int,
        start: int,
        end: int,
        *,
        bias: int = 0,
        file_id: int = 0,
        unwinder: int = Unwinder.NATIVE,
        flags: int = 0,
    ) -> None:
        """Add an executable range. ValueError where one is already, or it is empty."""
        mapping = ffi.new("struct oa_mapping *", (start, end, bias, file_id, unwinder, flags))
        _check(lib.oa_host_add_mapping(self.handle, space, mapping), "add a mapping")

    def drop_space(self, space: int) -> int:
        """Forget the mappings of an address space; returns how many there were."""
        return int(lib.oa_host_drop_space(self.handle, space))

    def add_table(self, file_id: int, table: RowTable) -> None:
        """Add the rows of a file.

        Raises:
            ValueError: A row names a rule that is not there, or the pool is full.
        """
        rules = [
            self._add_rule(rule) for (rule,) in struct.iter_unpack(f"{RULE_BYTES}s", table.rules)
        ]
        rows = array("I", table.rows)
        for at, row in enumerate(rows):
            index = row >> 16
            if index < Row.COMMAND:
                if index >= len(rules):
                    raise ValueError(f"row {at} names rule {index} of {len(rules)}")
                rows[at] = row & 0xFFFF | rules[index] << 16
        for page, first, count in _PAGE_ENTRY.iter_unpack(table.pages):
            if first + count > len(rows):
                raise ValueError(f"page {page} has rows up to {first + count} of {len(rows)}")
            chunk, at = self._store(rows[first : first + count])
            value = _PAGE.pack(chunk, at, count, 0)
            self.update(lib.OA_HOST_PAGES, _PAGE_KEY.pack(file_id, page), value)

    def _add_rule(self, rule: bytes) -> int:
        index = self._rules.setdefault(rule, len(self._rules))
        if index >= Limit.MAX_RULES:
            del self._rules[rule]
            raise ValueError("too many distinct rules")
        ffi.memmove(self._rule_memory + index, rule, RULE_BYTES)
        self.use_rules(self._rule_memory, len(self._rules) * RULE_BYTES)
        return index

    def _store(self, rows: array[int]) -> tuple[int, int]:
        """Copy rows into the pool; returns the chunk and the index of the first."""
        if self._free_from + len(rows) > Limit.CHUNK_ROWS:
            self._chunk = ffi.new("u32[]", Limit.CHUNK_ROWS)
            self.add_chunk(self._chunks, self._chunk, Limit.CHUNK_BYTES)
            self._chunks += 1
            self._free_from = 0
        first = self._free_from
        ffi.memmove(self._chunk + first, rows, len(rows) * 4)
        self._free_from += len(rows)
        return self._chunks - 1, first


class HostUnwinder:
    """Unwinds deferred stacks with given tables; of another `machine` (EM_*) than this one, too.

    Text of a live process is read only with `follow_text`: deferred stacks are
    old, and only what does not change may be looked at.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        max_user_frames: int = Limit.DEFAULT_USER_FRAMES,
        pac_mask: int = 0,
        interpreters: bool = False,
        follow_text: bool = False,
        machine: int = 0,
    ) -> None:
        self.tables = tables
        self._follow_text = follow_text
        config = ffi.new("struct oa_config *")
        config.max_user_frames = max_user_frames
        config.pac_mask = pac_mask
        lib.oa_host_configure(tables.handle, config)
        lib.oa_host_use_machine(tables.handle, machine)
        lib.oa_host_use_interpreters(tables.handle, interpreters)
        self._out = ffi.new("char[]", lib.oa_host_trace_bytes())

    def limit(self, *, steps: int = 0, reads: int = 0, lookups: int = 0) -> None:
        """Let walks fail after so many steps, reads or look-ups, for tests; 0: never."""
        limits = ffi.new("struct oa_host_limits *", (steps, reads, lookups))
        lib.oa_host_limit(self.tables.handle, limits)

    @property
    def spent(self) -> tuple[int, int, int]:
        """Steps, reads and look-ups of the last walk."""
        spent = lib.oa_host_spent(self.tables.handle)
        return spent.steps, spent.reads, spent.lookups

    def unwind(
        self, deferred: bytes | memoryview, *, pid: int = 0, all_code: bool = False
    ) -> bytes | None:
        """Turn a deferred record into the trace record that BPF would have sent.

        Args:
            deferred: `struct oa_deferred`, its stack cut at `stack_bytes`.
            pid: The process as this namespace sees it, for `follow_text`.
            all_code: All that is mapped is in the tables: what lies elsewhere is no code.

        Returns:
            `struct oa_trace` and its words; `None` if the process is not known
            in that generation.

        Raises:
            ValueError: It is no such record.
        """
        handle = self.tables.handle
        if self._follow_text:
            lib.oa_host_use_process(handle, pid, lib.OA_HOST_REACH_TEXT)
        lib.oa_host_know_all_code(handle, all_code)
        view = ffi.from_buffer(deferred)
        size = lib.oa_host_unwind(handle, view, len(deferred), self._out, len(self._out))
        if size == -errno.EINVAL:
            raise ValueError("not a deferred stack")
        return ffi.buffer(self._out, _check(size, "unwind"))[:] if size else None
