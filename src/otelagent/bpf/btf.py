# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the fields of a kernel's structs are, by its BTF.

with Btf.open(VMLINUX) as btf:
    btf.offset("task_struct", "thread.fsbase")
"""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path
from typing import Any, Self

from otelagent._native import ffi, lib
from otelagent.bpf.reasons import describe
from otelagent.errors import MissingFeature

VMLINUX = Path("/sys/kernel/btf/vmlinux")
"""The running kernel's own (CONFIG_DEBUG_INFO_BTF)."""
_PLACES = (
    "/boot/vmlinux-{0}",
    "/lib/modules/{0}/vmlinux-{0}",
    "/lib/modules/{0}/vmlinux",
    "/lib/modules/{0}/build/vmlinux",
    "/usr/lib/modules/{0}/kernel/vmlinux",
    "/usr/lib/debug/boot/vmlinux-{0}",
    "/usr/lib/debug/boot/vmlinux-{0}.debug",
    "/usr/lib/debug/lib/modules/{0}/vmlinux",
)
"""Where distributions put a kernel with its types; by release."""


def find_btf_files(release: str = "") -> list[Path]:
    """List the files that may hold the running kernel's types, its own first."""
    release = release or platform.release()
    places = [VMLINUX, *(Path(place.format(release)) for place in _PLACES)]
    return [place for place in places if place.is_file()]


def btf_available() -> bool:
    """Tell whether the running kernel's types are to be had without asking the user."""
    for path in find_btf_files():
        try:
            Btf.open(path).close()
        except MissingFeature:
            continue
        return True
    return False


class Btf:
    """BTF of a kernel, from the kernel or a file."""

    def __init__(self, handle: Any, path: Path) -> None:  # noqa: ANN401 (cdata)
        self._handle = handle
        self.path = path

    @classmethod
    def open(cls, path: Path = VMLINUX) -> Btf:
        """Read raw BTF or an ELF file that carries it.

        Raises:
            MissingFeature: The file is not there, or holds no BTF.
        """
        error = ffi.new("s32 *")
        handle = lib.oa_btf_open(os.fsencode(path), error)
        if error[0]:
            raise MissingFeature(
                f"no BTF in {path}: {describe(error[0])}",
                hint="give a BTF file of this kernel with --btf-path",
            )
        return cls(handle, path)

    def offset(self, struct: str, field: str) -> int | None:
        """Find the byte offset of `a.b.c` in a struct; None if it has no such field."""
        found = int(lib.oa_btf_offset(self._handle, struct.encode(), field.encode()))
        if found == -errno.ENOENT:
            return None
        if found < 0:
            raise MissingFeature(f"{self.path}: {struct}.{field}: {describe(found)}")
        return found

    def close(self) -> None:
        """Give the memory back."""
        if self._handle is not None:
            lib.oa_btf_close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
