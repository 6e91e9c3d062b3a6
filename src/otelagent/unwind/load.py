# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of a file: from the cache, else extracted in a child process.

The child (`host/child.py`) gives the memory of parsing back, and a file that manages to
crash the parser costs only itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.host import child
from otelagent.unwind.cache import FORMAT_VERSION, RowCache, decode_table, encode_table
from otelagent.unwind.code import find_undescribed, read_symbols
from otelagent.unwind.extract import extract_both, used_elsewhere, used_ranges
from otelagent.unwind.file_id import file_id

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile, Source
    from otelagent.unwind.rows import RowTable

TIMEOUT_SECONDS = 60
MAX_CHILD_BYTES = 2 << 30
_HASH_PIECE = 256 << 10
_DONE, _REFUSED = 0, 3


def rows_key(source: Source, elf: ElfFile) -> bytes:
    """Make the cache's key of a file: FileID, build id and all bytes that rows are made from.

    The content is hashed with SHA-256, since a process may own a file that has
    the FileID and the build id of a library everybody uses.
    """
    digest = hashlib.sha256(b"rows %d %d\0" % (FORMAT_VERSION, elf.machine))
    digest.update(file_id(source) + elf.build_id.encode() + b"\0" + used_elsewhere(elf) + b"\0")
    for offset, size in used_ranges(elf):
        digest.update(b"%d %d\0" % (offset, size))
        for at in range(offset, offset + size, _HASH_PIECE):
            digest.update(source.read_at(at, min(_HASH_PIECE, offset + size - at)))
    return digest.digest()


def code_key(elf: ElfFile, key: bytes, described: RowTable) -> bytes:
    """Make the cache's key of a file's rows with those of its undescribed code; `key` if none is.

    Raises:
        BadElf: A symbol table cannot be read.
    """
    undescribed = find_undescribed(elf, described)
    if not undescribed:
        return key
    digest = hashlib.sha256(key + b"\0code\0")
    for each in undescribed:
        digest.update(read_symbols(elf, each.gaps))
        for start, end in each.pieces():
            digest.update(b"%d %d\0" % (start, end))
            for at in range(start, end, _HASH_PIECE):
                digest.update(each.read(elf, at, min(at + _HASH_PIECE, end)))
    return digest.digest()


def load_rows(source: Source, elf: ElfFile, cache: RowCache | None) -> RowTable:
    """Get the rows of a file, from the cache or by extraction in a child process.

    Raises:
        BadElf: The file cannot be used, or parsing it crashed or took too long.
    """
    key = rows_key(source, elf) if cache is not None else b""
    if cache is not None and (table := cache.get(key)) is not None:
        full_key = code_key(elf, key, table)
        if full_key == key:
            return table
        if (table := cache.get(full_key)) is not None:
            return table
    result_fd = os.memfd_create("oa-rows", os.MFD_CLOEXEC)
    try:
        pid = child.fork(lambda: _extract(elf, cache, key, result_fd), MAX_CHILD_BYTES)
        return _read_result(result_fd, child.wait(pid, TIMEOUT_SECONDS))
    finally:
        os.close(result_fd)


def _extract(elf: ElfFile, cache: RowCache | None, key: bytes, result_fd: int) -> int:
    """Extract, in the child, and hand the result over."""
    try:
        described, table = extract_both(elf)
        _write(result_fd, encode_table(table))
        if cache is not None:
            cache.put(key, described)
            if table is not described:
                cache.put(code_key(elf, key, described), table)
    except BadElf as err:
        with contextlib.suppress(OSError):
            _write(result_fd, str(err).encode())
            return _REFUSED
        return child.FAILED
    return _DONE


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _read_result(fd: int, code: int) -> RowTable:
    size = os.fstat(fd).st_size
    data = os.pread(fd, size, 0)
    if code == _DONE and (table := decode_table(data)) is not None:
        return table
    if code == _REFUSED:
        raise BadElf(data.decode("utf-8", "replace"))
    how = f"ended by signal {-code}" if code < 0 else f"failed with {code}"
    raise BadElf(f"the reader of its unwind information {how}")
