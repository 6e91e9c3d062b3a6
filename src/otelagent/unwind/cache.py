# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows on disk, so that a file is parsed once per machine.

An entry is one file, named by its key in hex: header, then pages, rows, rules
and the sources as text. It is written beside and renamed, so several agents may
use one directory. What is damaged is removed; what somebody else could have
written is not read.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import time
import zlib
from pathlib import Path

from otelagent import log
from otelagent.unwind.rows import RowTable

FORMAT_VERSION = 19
"""Part of every key: raise it when rows of the same file would come out differently."""
MAX_BYTES = 256 << 20
MAX_ENTRY_BYTES = 64 << 20
LARGE_BYTES = 1 << 20
"""After an entry of this size there is always a look whether they are too many."""
_MAGIC = b"oa-rows\n"
# magic, CRC-32 of all that follows, bytes of pages, rows, rules and sources
_HEADER = struct.Struct("<8sIIIII")
_SUFFIX = ".rows"
_STALE_SECONDS = 3600
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL

_logger = logging.getLogger(__name__)


def default_directory() -> Path:
    """`/var/cache/otelagent` for root, else `$XDG_CACHE_HOME/otelagent` or `~/.cache/otelagent`."""
    if os.geteuid() == 0:
        return Path("/var/cache/otelagent")
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home.startswith("/") else Path("~/.cache").expanduser()
    return base / "otelagent"


def encode_table(table: RowTable) -> bytes:
    """Write a table as the bytes of a cache entry."""
    text = "\n".join(table.sources).encode()
    body = b"".join((table.pages, table.rows, table.rules, text))
    sizes = (len(table.pages), len(table.rows), len(table.rules), len(text))
    crc = zlib.crc32(struct.pack("<IIII", *sizes) + body)
    return _HEADER.pack(_MAGIC, crc, *sizes) + body


def decode_table(data: bytes) -> RowTable | None:
    """Read a cache entry; None if it is damaged or inconsistent in itself."""
    if len(data) < _HEADER.size:
        return None
    magic, crc, *sizes = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) != _HEADER.size + sum(sizes):
        return None
    if zlib.crc32(memoryview(data)[12:]) != crc:
        return None
    pieces, at = [], _HEADER.size
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    sources = tuple(pieces[3].decode("utf-8", "replace").split("\n")) if pieces[3] else ()
    table = RowTable(pieces[0], pieces[1], pieces[2], sources)
    return table if table.is_consistent() else None


class RowCache:
    """The cache directory. May be used by several processes at once; not by several threads.

    A directory that cannot be made or could be written by others is not used:
    `get` then finds nothing and `put` does nothing.

    Args:
        directory: Made (0700) if it is missing; None: `default_directory()`.
        max_bytes: Entries used longest ago are removed above this.
    """

    def __init__(self, directory: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.directory = default_directory() if directory is None else directory
        self.max_bytes = max_bytes
        self._fd = self._open_directory()
        # On a read-only file system entries may be read all the same.
        self._is_writable = self._fd >= 0 and os.access(self.directory, os.W_OK)
        if self._fd >= 0 and not self._is_writable:
            where = self.directory
            log.once(_logger, where, "unwind rows are not cached: read-only", directory=where)

    def close(self) -> None:
        """Close the directory; `get` and `put` do nothing from then on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()

    def get(self, key: bytes) -> RowTable | None:
        """Read an entry and mark it as used; None if there is none that can be trusted."""
        name = key.hex() + _SUFFIX
        data = self.read(name)
        if data is None:
            return None
        table = decode_table(data)
        if table is None:
            self._remove(name)
        return table

    def read(self, name: str) -> bytes | None:
        """Read a file of the directory and mark it as used; None if it cannot be trusted."""
        if self._fd < 0:
            return None
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError:
            return None
        try:
            data = self._read_trusted(fd)
            if data is not None:
                if self._is_writable:
                    os.utime(fd)
                return data
        except OSError as err:
            log.once(_logger, "cache read", "cache entry not read", entry=name, error=err)
        finally:
            os.close(fd)
        self._remove(name)
        return None

    def put(self, key: bytes, table: RowTable) -> None:
        """Store an entry; failure is logged once and does no harm."""
        if self._is_writable:
            self.write(key.hex() + _SUFFIX, encode_table(table))

    def write(self, name: str, data: bytes) -> None:
        """Store a file in the directory, at once or not at all."""
        if not self._is_writable or len(data) > MAX_ENTRY_BYTES:
            return
        partial = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            fd = os.open(partial, _WRITE, 0o600, dir_fd=self._fd)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            os.rename(partial, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            # To look at 3,000 entries takes 10 ms, most files' rows 3. Names are hashes, so that
            # one of 16 has its turn, whoever writes it.
            if name.startswith("0") or len(data) > LARGE_BYTES:
                self._evict()
        except OSError as err:
            self._remove(partial)
            hint = f"check the free space of {self.directory}"
            log.once(_logger, "cache write", "unwind rows are not cached", error=err, hint=hint)

    def _open_directory(self) -> int:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            log.once(_logger, self.directory, "no cache for unwind rows", error=err)
            return -1
        if _is_ours(os.fstat(fd)):
            return fd
        os.close(fd)
        hint = f"others may write {self.directory}: chown and chmod go-w it"
        log.once(_logger, self.directory, "the cache is not used", hint=hint)
        return -1

    def _read_trusted(self, fd: int) -> bytes | None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
            return None
        if status.st_size > MAX_ENTRY_BYTES:
            return None
        return os.read(fd, status.st_size + 1)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._fd)
        except OSError:  # another agent was faster, or it is a directory: it stays unread
            return

    def _evict(self) -> None:
        """Remove entries, those used longest ago first, and what crashed writers left."""
        entries, total, now = [], 0, time.time()
        for entry in os.scandir(self._fd):
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if entry.name.startswith("."):
                if now - status.st_mtime > _STALE_SECONDS:
                    self._remove(entry.name)
            elif entry.name.endswith(_SUFFIX):
                entries.append((status.st_mtime, status.st_size, entry.name))
                total += status.st_size
        for _, size, name in sorted(entries):
            if total <= self.max_bytes:
                return
            self._remove(name)
            total -= size


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
