# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels that may freeze when a BPF program reads the memory of a process.

There `copy_from_user_nofault`, which `bpf_probe_read_user` calls, takes a lock (through
`__check_object_size`, which looks at vmalloc areas) that the interrupted code may hold.
Linux d319f344561d ("mm: Fix copy_from_user_nofault().", v6.4) ended that; it was taken
into 6.1.36 and 6.3.10, and distributions take fixes without a change of the version: so
an affected version is looked at once more, by the code of the function itself. With the
fix it asks `nmi_uaccess_okay` first, which is a function on x86-64 and a constant elsewhere.

This is the one table in which versions are compared.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.errors import KernelError, MissingFeature

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Version = tuple[int, int, int]
# From (inclusive), until (exclusive).
AFFECTED: tuple[tuple[Version, Version], ...] = (
    ((5, 19, 0), (6, 1, 0)),
    ((6, 1, 0), (6, 1, 36)),
    ((6, 2, 0), (6, 3, 0)),
    ((6, 3, 0), (6, 3, 10)),
)
FUNCTION = "copy_from_user_nofault"
LOCKING = "__check_object_size"
FIXED = "nmi_uaccess_okay"
OVERRIDE = "--no-kernel-version-check"

_SIGNATURE = Path("/proc/version_signature")
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_DEBIAN = re.compile(r"Debian (\d+\.\d+\.\d+)")
_UBUNTU = re.compile(r"^Ubuntu \S+ (\d+\.\d+\.\d+)$")


# Most kernels are known by their version: what looks at code is imported for the others.
def _read_functions(names: Collection[str]) -> dict[str, tuple[int, int]]:
    from otelagent.kernel.code import read_functions  # noqa: PLC0415

    return read_functions(names)


def _read_code(addr: int, size: int) -> bytes:
    from otelagent.kernel.code import read_code  # noqa: PLC0415

    return read_code(addr, size)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel that is asked about; tests make others than the running one.

    Attributes:
        release, build: As uname shows them.
        signature: Ubuntu's file, with the upstream version.
        functions: Names → (address, bytes).
        code: (address, bytes) → code.
    """

    release: str
    build: str = ""
    signature: str = ""
    functions: Callable[[Collection[str]], dict[str, tuple[int, int]]] = _read_functions
    code: Callable[[int, int], bytes] = _read_code


def running_kernel() -> Kernel:
    """Describe the running kernel."""
    name = os.uname()
    try:
        signature = _SIGNATURE.read_text()
    except OSError:
        signature = ""
    return Kernel(name.release, name.version, signature)


def parse_version(kernel: Kernel) -> Version | None:
    """Find the upstream version; Debian's and Ubuntu's releases do not tell its third number."""
    debian, ubuntu = _DEBIAN.search(kernel.build), _UBUNTU.match(kernel.signature.strip())
    text = debian[1] if debian else ubuntu[1] if ubuntu else kernel.release
    found = _NUMBERS.match(text)
    if not found:
        return None
    return int(found[1]), int(found[2]), int(found[3] or 0)


def is_affected(version: Version | None) -> bool:
    """Tell whether kernels of this version came without the fix; one that is unknown may."""
    return version is None or any(first <= version < end for first, end in AFFECTED)


def has_probe_read_bug(kernel: Kernel) -> bool:
    """Tell whether this kernel can freeze; a version that is known to be good is not looked at.

    Raises:
        KernelError: It cannot be told, since symbols or code cannot be read.
    """
    return is_affected(parse_version(kernel)) and not has_fix(kernel)


def has_fix(kernel: Kernel) -> bool:
    """Look at the code itself.

    Raises:
        KernelError: It cannot be read, or does not show it.
    """
    from otelagent.kernel.code import calls  # noqa: PLC0415

    found = kernel.functions((FUNCTION, LOCKING, FIXED))
    if FUNCTION not in found:
        raise MissingFeature(f"/proc/kallsyms does not have {FUNCTION}")
    if LOCKING not in found:
        return True  # no CONFIG_HARDENED_USERCOPY: nothing takes the lock
    if FIXED not in found:
        raise MissingFeature(f"this kernel does not have {FIXED}, which the fix uses on x86-64")
    addr, size = found[FUNCTION]
    return calls(kernel.code(addr, size), addr, found[FIXED][0])


def require_safe_reads(kernel: Kernel | None = None) -> None:
    """Refuse a kernel that can freeze.

    Raises:
        MissingFeature: It can, or it may and cannot be told.
    """
    kernel = kernel or running_kernel()
    try:
        if not has_probe_read_bug(kernel):
            return
    except KernelError as err:
        raise MissingFeature(
            f"Linux {kernel.release} may be one that freezes under profilers; whether it has the "
            f"fix cannot be told: {err}. This alone does not mean that the kernel is broken",
            hint=(f"{err.hint}; or, " if err.hint else "")
            + f"if you know that it is fixed (as 6.1.36, 6.3.10 and 6.4 are): {OVERRIDE}",
        ) from err
    raise MissingFeature(
        f"Linux {kernel.release} can freeze the machine when BPF reads a program's memory "
        f"({FUNCTION} takes a lock, and has not the fix)",
        hint=f"update to 6.1.36, 6.3.10, 6.4 or newer, or take the risk: {OVERRIDE}",
    )
