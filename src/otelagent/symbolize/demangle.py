# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Readable names of C++ and Rust functions; the work is done in `src/native/`."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

MAX_NAME_CHARS = 4096
CUT_MARK = "…"

_local = threading.local()


def _buffer() -> Any:  # noqa: ANN401 (cdata)
    from otelagent._native import ffi  # noqa: PLC0415 (not needed for --help)

    if not hasattr(_local, "buffer"):
        _local.buffer = ffi.new("char[]", MAX_NAME_CHARS)
    return _local.buffer


@lru_cache(maxsize=8192)
def demangle(raw: bytes) -> str:
    """Turn a symbol's name into the one that the source has; others stay as they are.

    A symbol version (`@GLIBC_2.34`) is left out, and what is longer than
    `MAX_NAME_CHARS` is cut and marked.
    """
    base, at, version = raw.partition(b"@")
    if at and version.lstrip(b"@")[:1].isupper():
        raw = base
    if raw.startswith((b"_Z", b"_R")):
        from otelagent._native import ffi, lib  # noqa: PLC0415

        buffer = _buffer()
        size = lib.oa_demangle(raw, len(raw), buffer, MAX_NAME_CHARS)
        if size > 0:
            text: str = ffi.buffer(buffer, size)[:].decode("utf-8", "replace")
            return text + CUT_MARK if size == MAX_NAME_CHARS else text
    text = raw[:MAX_NAME_CHARS].decode("utf-8", "replace")
    return text + CUT_MARK if len(raw) > MAX_NAME_CHARS else text
