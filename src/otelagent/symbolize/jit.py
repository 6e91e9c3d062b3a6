# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names of code in memory without a file: perf maps and jitdumps.

Both are written by the process itself (`node --perf-basic-prof`, `perf-map-agent`,
…), so they are opened inside of its root, only if they belong to its user or to root,
and read up to a cap. They are read on when they have grown.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import FormatError, TargetError
from otelagent.formats.jitdump import HEADER_BYTES, JitDump, parse_header
from otelagent.formats.perf_map import MAX_NAME_BYTES, CodeMap, parse_perf_map
from otelagent.host.files import FileSource, open_file, open_target
from otelagent.model import FrameType, Function, Line
from otelagent.symbolize.result import NO_JIT_MAP, OUTSIDE, Named, plain, unresolved

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

MAX_FILE_BYTES = 256 << 20
MAX_JITDUMPS = 4
LOOK_SECONDS = 1.0
MAX_PROCESSES = 64
MAX_MAPS_CHARS = 16 << 20
_PIECE_BYTES = 4 << 20
_JITDUMP = re.compile(r"^\S+ \S+ \S+ \S+ \d+ +(/.*/jit-\d+\.dump)$", re.MULTILINE)

_logger = logging.getLogger(__name__)


class _PerfMap:
    """One perf map, read as far as it was written."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self._read = 0
        self._map = CodeMap()

    def read_on(self, size: int) -> None:
        while self._read < min(size, MAX_FILE_BYTES):
            data = self.source.read_at(self._read, _PIECE_BYTES)
            used = parse_perf_map(data, self._map, self._read)
            if not used:
                return
            self._read += used

    def find(self, addr: int) -> Named | None:
        found = self._map.find(addr)
        if found is None:
            return None
        raw = self.source.read_at(found[1], MAX_NAME_BYTES).partition(b"\n")[0]
        return plain(raw.decode("utf-8", "replace"), kind=FrameType.JIT)


class _Dump:
    """One jitdump, read as far as it was written."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self._read = parse_header(source.read_at(0, HEADER_BYTES))
        self._state = JitDump()

    def read_on(self, size: int) -> None:
        piece = _PIECE_BYTES
        while self._read < min(size, MAX_FILE_BYTES):
            used = self._state.feed(self.source.read_at(self._read, piece))
            if not used and (piece >= MAX_FILE_BYTES or self._read + piece >= size):
                return
            piece = _PIECE_BYTES if used else piece * 4  # a record larger than the piece
            self._read += used

    def find(self, addr: int) -> Named | None:
        found = self._state.find(addr)
        if found is None:
            return None
        name, file, line = found
        return Named((Line(Function(name, "", file), line),), FrameType.JIT)


class JitSymbols:
    """Names JIT-compiled code of one process. May be called from any thread.

    Args:
        pid: The process as we see it.
        jitdumps: Paths of `jit-PID.dump` files that it has mapped, as it names them.
        proc: Where procfs is.
    """

    def __init__(
        self, pid: int, jitdumps: Sequence[str] = (), *, proc: Path = Path("/proc")
    ) -> None:
        self._folder = proc / str(pid)
        self._pid = pid
        self._jitdumps = tuple(jitdumps)[:MAX_JITDUMPS]
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._open: dict[str, _PerfMap | _Dump] = {}

    def name(self, addr: int, *, is_return_address: bool = False) -> Named:
        """Name an address of the process."""
        addr -= is_return_address
        with self._lock:
            self._look()
            for one in self._open.values():
                named = one.find(addr)
                if named is not None:
                    return named
            return unresolved(OUTSIDE if self._open else NO_JIT_MAP, FrameType.JIT)

    def close(self) -> None:
        """Close the files; the answers afterwards are `unresolved`."""
        with self._lock:
            for one in self._open.values():
                one.source.close()
            self._open.clear()
            self._looked_at = float("inf")

    def _look(self) -> None:
        """Open what is new and read on what has grown, at most once a second."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        paths = [*self._jitdumps, *(f"/tmp/perf-{p}.map" for p in self._pids())]  # noqa: S108
        for path in dict.fromkeys([*self._open, *paths]):
            if path not in self._open:
                opened = self._open_one(path)
                if opened is None:
                    continue
                self._open[path] = opened
            self._read_on(path)

    def _read_on(self, path: str) -> None:
        one = self._open[path]
        try:
            one.source.stat = os.fstat(one.source.fd)  # it grows
            one.read_on(one.source.size)
        except (FormatError, OSError) as err:
            _logger.debug("jitdump broken path=%s error=%s", path, err)
            one.source.close()

    def _open_one(self, path: str) -> _PerfMap | _Dump | None:
        source = self._open_owned(path)
        if source is None:
            return None
        try:
            return _Dump(source) if path in self._jitdumps else _PerfMap(source)
        except FormatError as err:
            _logger.debug("jitdump refused path=%s error=%s", path, err)
            source.close()
            return None

    def _open_owned(self, path: str) -> FileSource | None:
        """Open a file of the target if its user or root owns it."""
        root = self._folder / "root"
        try:
            source = open_target(str(root), path) if root.exists() else open_file(path)
        except TargetError:
            return None
        if source.stat.st_uid not in {0, self._status_ids("Uid")[:2][-1]}:
            _logger.debug("perf map of another user path=%s", path)
            source.close()
            return None
        return source

    def _pids(self) -> list[int]:
        """The process's number in its own pid namespace, then the one that we see."""
        return [*self._status_ids("NSpid")[-1:], self._pid]

    def _status_ids(self, field: str) -> list[int]:
        try:
            text = (self._folder / "status").read_text(errors="replace")
        except OSError:
            return [-1]
        for line in text.splitlines():
            if line.startswith(field + ":"):
                return [int(word) for word in line.split()[1:] if word.isdigit()] or [-1]
        return [-1]


class JitProcesses:
    """The JIT code of many processes, the least lately asked for forgotten. For any thread."""

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._by_process: dict[tuple[int, Hashable], JitSymbols] = {}

    def name(self, pid: int, generation: Hashable, addr: int, *, is_return_address: bool) -> Named:
        """Name an address of a process; `generation` tells one life of a pid from another."""
        with self._lock:
            symbols = self._by_process.pop((pid, generation), None)
            if symbols is None:
                symbols = JitSymbols(pid, find_jitdumps(pid, self._proc), proc=self._proc)
            self._by_process[pid, generation] = symbols
            if len(self._by_process) > MAX_PROCESSES:
                self._by_process.pop(next(iter(self._by_process))).close()
        return symbols.name(addr, is_return_address=is_return_address)

    def forget(self, pid: int, generation: Hashable) -> None:
        """Close what is open for a process that is gone."""
        with self._lock:
            symbols = self._by_process.pop((pid, generation), None)
        if symbols is not None:
            symbols.close()


def find_jitdumps(pid: int, proc: Path = Path("/proc")) -> list[str]:
    """List the `jit-N.dump` files that a process has mapped: that is how a JIT announces them."""
    try:
        with (proc / str(pid) / "maps").open(errors="replace") as stream:
            text = stream.read(MAX_MAPS_CHARS)
    except OSError:
        return []
    return list(dict.fromkeys(_JITDUMP.findall(text)))[:MAX_JITDUMPS]
