# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Packed files (zstd, xz), unpacked into a file without a name.

What is packed may claim any size: holes are left where it is all zeros, and
there is a cap. Known by their first bytes, whatever they are called.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from otelagent.errors import OutputError
from otelagent.host.files import FileSource, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_UNPACKED_BYTES = 64 << 30
MAX_WINDOW_BYTES = 512 << 20
_ZSTD, _XZ = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"
_PIECE_BYTES = 1 << 20


def open_unpacked(path: str) -> tuple[FileSource, str]:
    """Open a file, unpacked if it is packed; and say what is wrong with it, if anything is.

    Raises:
        TargetError: It cannot be opened.
        OutputError: There is no room for it.
    """
    source = open_file(path)
    magic = source.read_at(0, len(_XZ))
    if not magic.startswith((_ZSTD, _XZ)):
        return source, ""
    try:
        pieces = _unzstd(source) if magic.startswith(_ZSTD) else _unxz(source)
        return _write(pieces)
    finally:
        source.close()


def _write(pieces: Iterator[bytes]) -> tuple[FileSource, str]:
    problem = ""
    with tempfile.TemporaryFile(prefix="otelagent-") as out:
        size = 0
        try:
            for data in pieces:
                if data.count(0) != len(data):
                    os.pwrite(out.fileno(), data, size)
                size += len(data)
                if size > MAX_UNPACKED_BYTES:
                    problem = (
                        f"it is larger than {MAX_UNPACKED_BYTES >> 30} GiB: the rest is left out"
                    )
                    break
        except OSError as err:
            raise OutputError(
                f"cannot unpack into {tempfile.gettempdir()}: {err.strerror}",
                hint="TMPDIR names another directory",
            ) from err
        except ValueError as err:
            problem = f"it cannot be unpacked to its end: {err}"
        os.ftruncate(out.fileno(), size)
        return FileSource(os.dup(out.fileno())), problem


def _read(source: FileSource) -> Iterator[bytes]:
    at = 0
    while data := source.read_at(at, _PIECE_BYTES):
        yield data
        at += len(data)


def _unxz(source: FileSource) -> Iterator[bytes]:
    import lzma  # noqa: PLC0415 (few cores are packed)

    unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_BYTES)
    for data in _read(source):
        fed = data
        while True:
            try:
                yield unpack.decompress(fed, _PIECE_BYTES)
            except (lzma.LZMAError, EOFError) as err:
                raise ValueError(str(err)) from err
            fed = b""
            if unpack.eof:
                return
            if unpack.needs_input:
                break
    raise ValueError("it is cut")


def _unzstd(source: FileSource) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415

    unpack = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    with open(source.fd, "rb", closefd=False) as stream:
        reader = unpack.stream_reader(stream, read_across_frames=True)
        try:
            while data := reader.read(_PIECE_BYTES):
                yield data
        except zstandard.ZstdError as err:
            raise ValueError(str(err)) from err
