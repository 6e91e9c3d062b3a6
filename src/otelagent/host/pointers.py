# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which bits of a return address are a signature (arm64's pointer authentication).

The kernel signs with bits 54 down to the size of user space (`ptrauth_user_pac_mask`,
arch/arm64/include/asm/pointer_auth.h). That size is taken from where our own stack is, at
its upper end: with 52 bits the kernel still maps below 2^48 unless asked otherwise
(Documentation/arch/arm64/memory.rst), and the bits between are 0 in every address.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path

AT_HWCAP = 16  # include/uapi/linux/auxvec.h
HWCAP_PACA = 1 << 30  # arch/arm64/include/uapi/asm/hwcap.h
TOP_BIT = 54


def pac_mask(machine: str, auxv: bytes, stack_end: int) -> int:
    """Give the bits of a signature; 0 where return addresses are not signed.

    Args:
        machine: As uname tells it.
        auxv: /proc/self/auxv.
        stack_end: The first address above the stack of a process's first thread.
    """
    pairs = dict(struct.iter_unpack("=QQ", auxv[: len(auxv) // 16 * 16]))
    if machine != "aarch64" or not pairs.get(AT_HWCAP, 0) & HWCAP_PACA:
        return 0
    size_bits = (stack_end - 1).bit_length()
    return (1 << TOP_BIT + 1) - (1 << size_bits) if size_bits <= TOP_BIT else 0


def read_pac_mask() -> int:
    """Find the bits on this machine."""
    if platform.machine() != "aarch64":
        return 0
    maps = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    stack = next((line for line in maps if line.endswith("[stack]")), "0-1000000000000 ")
    end = int(stack.split(" ", 1)[0].partition("-")[2], 16)
    return pac_mask("aarch64", Path("/proc/self/auxv").read_bytes(), end)
