# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The identity of an executable that needs no build id.

Two builds without a build id can share one, so a `FileId` names a file towards
backends, but caches are keyed by more than it.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.model import FileId

if TYPE_CHECKING:
    from otelagent.formats.elf import Source

PIECE_BYTES = 4096
_FNV128_PRIME = (1 << 88) + 0x13B
_FNV128_BASIS = 0x6C62272E07BB014262B821756295C58D


def file_id(source: Source) -> FileId:
    """Hash a file's first and last 4,096 bytes and its length (big-endian u64).

    In a file shorter than 8,192 bytes the pieces overlap; both are hashed in full.

    Raises:
        BadElf: The file was cut while it was read.
    """
    size = source.size
    piece = min(size, PIECE_BYTES)
    head, tail = source.read_at(0, piece), source.read_at(size - piece, piece)
    if len(head) != piece or len(tail) != piece:
        raise BadElf("the file was cut while it was read")
    return FileId(hashlib.sha256(head + tail + struct.pack(">Q", size)).digest()[:16])


def kernel_file_id(build_id_hex: str) -> FileId:
    """Hash the GNU build id of a kernel image or module: FNV-1a of 128 bits over its hex digits."""
    value = _FNV128_BASIS
    for byte in build_id_hex.encode("ascii"):
        value = ((value ^ byte) * _FNV128_PRIME) & ((1 << 128) - 1)
    return FileId(value.to_bytes(16, "big"))
