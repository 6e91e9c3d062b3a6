# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Address spaces: which code is where, as BPF sees it in the map `mappings`.

A fork begins with its parent's space and shares it until one of them maps code
or execs; so a server's workers cost one set of entries.
"""

from __future__ import annotations

import bisect
import dataclasses
import logging
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from otelagent import log, metrics
from otelagent._native import ffi, lib
from otelagent.abi._generated import MappingFlag, Unwinder
from otelagent.errors import KernelError
from otelagent.formats.proc_maps import parse_executable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otelagent.bpf.maps import LpmTrie
    from otelagent.formats.proc_maps import MappedRange
    from otelagent.processes.executables import Executables, Loaded

logger = logging.getLogger(__name__)

MAX_ANONYMOUS, MAX_MAPPINGS = 16_384, 32_768
"""Ranges of code in one space, without a file and all: what makes more does it on purpose."""
_KEY_BYTES = ffi.sizeof("struct oa_mapping_key")
_MAX_KEYS = 128
_VALUE = struct.Struct("=QQQQII")
_WRAP = (1 << 64) - 1


def range_keys(space: int, start: int, end: int) -> bytes:
    """Cut [start, end) into aligned powers of two: `struct oa_mapping_key` each."""
    keys = ffi.new("struct oa_mapping_key[]", _MAX_KEYS)
    count = lib.oa_range_keys(space, start, end, keys, _MAX_KEYS)
    found: bytes = ffi.buffer(keys, count * _KEY_BYTES)[:]
    return found


@dataclass(frozen=True, slots=True)
class Mapping:
    """A range of code in an address space; `loaded` is None for anonymous memory.

    `keeps_frames` says that what is in anonymous memory always keeps frame pointers.
    """

    start: int
    end: int
    bias: int
    loaded: Loaded | None
    keeps_frames: bool = field(default=False, compare=False)

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """Cut it by unwinder: (start, end, `Unwinder`)."""
        at = self.start
        known = self.loaded.interpreter if self.loaded else None
        owner = known.family.unwinder if known else Unwinder.NATIVE
        for first, last in known.eval_loop if known else ():
            low = max(first + self.bias, at)
            high = min(last + self.bias, self.end)
            if low >= high:
                continue
            if at < low:
                yield at, low, Unwinder.NATIVE
            yield low, high, owner
            at = high
        if at < self.end:
            yield at, self.end, Unwinder.NATIVE

    def keys(self, space: int) -> bytes:
        """Make its keys (`struct oa_mapping_key`)."""
        return b"".join(range_keys(space, start, end) for start, end, _ in self.pieces())

    def entries(self, space: int) -> tuple[bytes, bytes]:
        """Make its keys and values (`struct oa_mapping_key`, `struct oa_mapping`)."""
        all_keys, values = [], []
        flags = 0 if self.loaded else 1 << MappingFlag.ANON_BIT
        flags |= self.keeps_frames << MappingFlag.FRAMES_BIT
        file_key = self.loaded.key if self.loaded else 0
        for start, end, unwinder in self.pieces():
            value = _VALUE.pack(start, end, self.bias & _WRAP, file_key, unwinder, flags)
            keys = range_keys(space, start, end)
            all_keys.append(keys)
            values.append(value * (len(keys) // _KEY_BYTES))
        return b"".join(all_keys), b"".join(values)


@dataclass(slots=True)
class Space:
    """The code of one address space, by ascending address; `users` processes have it.

    `keeps_frames` says that it has V8, whose code is in anonymous memory; that is looked at
    once there is code in such memory: `has_anonymous`. `unread` is what is mapped besides
    and was not looked at, since nothing was sampled there yet; None once something was.
    `lines` is what /proc had said of that before (`formats/proc_maps.py`).
    """

    number: int
    mappings: list[Mapping] = field(default_factory=list)
    users: int = 1
    has_anonymous: bool = False
    keeps_frames: bool = False
    unread: list[MappedRange] | None = None
    lines: bytes = b""

    def take_unread(self) -> list[MappedRange]:
        """Give what is mapped and was not looked at, oldest first; from now on all is."""
        unread = [*parse_executable(self.lines), *(self.unread or ())]
        self.unread, self.lines = None, b""
        return unread

    def find(self, addr: int) -> Mapping | None:
        """Find the mapping that covers an address."""
        found = self.overlapping(addr, addr + 1)
        return found[0] if found else None

    def overlapping(self, start: int, end: int) -> list[Mapping]:
        """List mappings that share an address with [start, end)."""
        first = bisect.bisect_right(self.mappings, start, key=lambda each: each.end)
        last = bisect.bisect_left(self.mappings, end, key=lambda each: each.start)
        return self.mappings[first:last]

    def index(self, mapping: Mapping) -> int:
        """Find the place of one that is mapped."""
        return bisect.bisect_left(self.mappings, mapping.start, key=lambda each: each.start)


class Interpreters(Protocol):
    """Must know of an interpreter before BPF sees its code in a space."""

    def mapped(self, space: Space, mapping: Mapping) -> None:
        """Take note that an interpreter's file is about to be mapped into a space."""
        ...

    def copied(self, old: int, new: int) -> None:
        """Take note that space `new` begins as a copy of `old`."""
        ...

    def freed(self, space: int) -> None:
        """Forget a space: its number is never used again."""
        ...


class Spaces:
    """Makes, changes and frees spaces; the only writer of the map `mappings`.

    `on_taken` is called after something changed for a process that lives on.
    """

    def __init__(
        self,
        trie: LpmTrie,
        executables: Executables,
        on_taken: Callable[[], None] = lambda: None,
        interpreters: Interpreters | None = None,
    ) -> None:
        self.on_taken = on_taken
        self._trie = trie
        self._executables = executables
        self._interpreters = interpreters
        self._next = 1
        self.entry_count = 0
        """Entries of the map `mappings`."""

    def make(self) -> Space:
        """Make an empty space with a number that was never used."""
        space = Space(self._next)
        self._next += 1
        return space

    def add(self, space: Space, new: Mapping) -> None:
        """Map code, in place of what was there."""
        for old in space.overlapping(new.start, new.end):
            if old == new:
                return
            self._remove(space, old)
            # What is left of the old one on both sides stays mapped.
            for start, end in ((old.start, new.start), (new.end, old.end)):
                if start < end:
                    self._insert(space, Mapping(start, end, old.bias, old.loaded))
        self._insert(space, new)

    def _insert(self, space: Space, mapping: Mapping) -> None:
        if len(space.mappings) >= (MAX_MAPPINGS if mapping.loaded else MAX_ANONYMOUS):
            self._fail("too many mappings", space.number)
            return
        if mapping.loaded:
            self._executables.acquire(mapping.loaded)
            if self._interpreters and mapping.loaded.interpreter:
                self._interpreters.mapped(space, mapping)
        else:
            if not space.has_anonymous:
                space.has_anonymous = True
                files = {each.loaded for each in space.mappings}
                space.keeps_frames = any(each.keeps_frames for each in files if each)
            mapping = dataclasses.replace(mapping, keeps_frames=space.keeps_frames)
        keys, values = mapping.entries(space.number)
        try:
            self._trie.update_many(keys, values)
        except KernelError as err:
            # The rest of the process, and everybody else, goes on.
            self._fail("the BPF map is full", 0, err)
            self._trie.delete_many(keys)
            if mapping.loaded:
                self._executables.release(mapping.loaded)
            return
        self.entry_count += len(keys) // _KEY_BYTES
        bisect.insort(space.mappings, mapping, key=lambda each: each.start)
        if not space.has_anonymous or space.keeps_frames or not mapping.loaded:
            return
        if mapping.loaded.keeps_frames:
            space.keeps_frames = True
            for each in [each for each in space.mappings if not each.loaded]:
                self._remove(space, each)
                self._insert(space, each)

    def _fail(self, reason: str, about: int, error: object = "") -> None:
        metrics.mapping_failed.add(reason=reason)
        log.once(logger, (reason, about), "code is not known to BPF", reason=reason, error=error)

    def _remove(self, space: Space, mapping: Mapping) -> None:
        del space.mappings[space.index(mapping)]
        keys = mapping.keys(space.number)
        self._trie.delete_many(keys)
        self.entry_count -= len(keys) // _KEY_BYTES
        if space.users:
            self.on_taken()
        if mapping.loaded:
            self._executables.release(mapping.loaded)

    def replace(self, space: Space, mappings: list[Mapping]) -> None:
        """Make a space hold exactly these; what stays is not touched."""
        wanted = set(mappings)
        for old in [each for each in space.mappings if each not in wanted]:
            self._remove(space, old)
        known = set(space.mappings)
        for new in mappings:
            if new not in known:
                self.add(space, new)

    def own(self, space: Space) -> Space:
        """Get a space that may be changed for one process: a copy if others have it, too."""
        if space.users == 1:
            return space
        space.users -= 1
        copy = self.make()
        copy.unread = None if space.unread is None else list(space.unread)
        copy.lines = space.lines
        if self._interpreters:
            self._interpreters.copied(space.number, copy.number)
        for mapping in space.mappings:
            self._insert(copy, mapping)
        return copy

    def share(self, space: Space) -> Space:
        """Count one more process that has this space."""
        space.users += 1
        return space

    def release(self, space: Space) -> None:
        """Count one process less; the last one frees the entries."""
        space.users -= 1
        if space.users == 0:
            for mapping in list(space.mappings):
                self._remove(space, mapping)
            if self._interpreters:
                self._interpreters.freed(space.number)
