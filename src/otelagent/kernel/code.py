# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Functions of the running kernel: where they are, their code, and which they call."""

from __future__ import annotations

import os
import platform
import struct
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent._native import ffi
from otelagent.abi._generated import Limit
from otelagent.bpf.links import Rate, close_event, open_sampling, spin
from otelagent.bpf.maps import ArrayMap
from otelagent.bpf.object import BpfObject, object_path
from otelagent.errors import AttachFailed, MissingFeature

if TYPE_CHECKING:
    from collections.abc import Collection

_KALLSYMS = Path("/proc/kallsyms")
_MAX_BYTES = 128 << 20
MAX_CODE_BYTES = 1024 - Limit.CODE_STEP
_ROUNDS = 60
_PADDING = 16
"""With call depth tracking a call goes to the padding before the function (x86-64,
arch/x86/kernel/callthunks.c)."""


def find_functions(names: Collection[str], data: bytes) -> dict[str, tuple[int, int]]:
    """Find functions in the text of kallsyms: name → (address, bytes to the next symbol).

    Raises:
        MissingFeature: All addresses are hidden.
    """
    found: dict[int, str] = {}
    addresses = set()
    for line in data.splitlines():
        parts = line.split(maxsplit=3)
        if len(parts) != 3 or parts[1] not in b"tTwW":
            continue  # with a fourth part it is in a module
        address = int(parts[0], 16)
        addresses.add(address)
        if parts[2].decode(errors="replace") in names:
            found[address] = parts[2].decode()
    if not addresses - {0}:
        raise MissingFeature(
            "the addresses in /proc/kallsyms are hidden",
            hint="sysctl kernel.kptr_restrict=1, or grant CAP_SYSLOG",
        )
    ordered = sorted(addresses)
    after = dict(pairwise(ordered))
    return {name: (at, after.get(at, at + 1) - at) for at, name in found.items()}


def read_functions(names: Collection[str]) -> dict[str, tuple[int, int]]:
    """Find functions of the running kernel; some 0.1 s.

    Raises:
        MissingFeature: Its symbols cannot be read.
    """
    try:
        with _KALLSYMS.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
    except OSError as err:
        raise MissingFeature(
            f"/proc/kallsyms cannot be read: {os.strerror(err.errno or 0)}",
            hint="it needs CONFIG_KALLSYMS and a mounted /proc",
        ) from err
    return find_functions(names, data)


def read_code(addr: int, size: int) -> bytes:
    """Read code of the kernel by a BPF program; at most `MAX_CODE_BYTES`.

    Raises:
        KernelError: The program cannot be loaded or attached, or the code not be read.
    """
    wanted = min(size, MAX_CODE_BYTES)
    with BpfObject.open(object_path("calibrate")) as owner:
        owner.set_variable("code_addr", addr.to_bytes(8, "little"))
        owner.set_autoload("on_calibration_tick", on=False)
        owner.set_autoload("on_code_tick", on=True)
        owner.load()
        fd = open_sampling(Rate(period=200_000), cpu=-1, pid=0)
        try:
            link = owner.program("on_code_tick").attach_perf_event(fd)
        except AttachFailed:
            close_event(fd)
            raise
        seen = ffi.new("struct oa_kernel_code *")
        with link:
            for _ in range(_ROUNDS):
                spin(5)
                ffi.memmove(seen, ArrayMap.of(owner, "kernel_code")[0], ffi.sizeof(seen[0]))
                if seen.is_read:
                    break
    if seen.bytes < wanted:
        raise MissingFeature(f"the kernel's code at {addr:#x} cannot be read")
    return bytes(ffi.buffer(seen.code, wanted))


def calls(code: bytes, addr: int, target: int) -> bool:
    """Tell whether code at `addr` calls or jumps to `target` directly."""
    if platform.machine() == "aarch64":
        # BL and B, by their upper 6 bits; the rest is a distance in words.
        words = struct.unpack(f"<{len(code) // 4}I", code[: len(code) // 4 * 4])
        wanted = ((target - addr) >> 2) & 0x3FFFFFF
        return any(
            word >> 26 in {0x25, 0x05} and (word + at) & 0x3FFFFFF == wanted
            for at, word in enumerate(words)
        )
    # CALL and JMP rel32, at any byte: no chance that 4 other bytes lead exactly there.
    for at in range(len(code) - 4):
        if code[at] in {0xE8, 0xE9}:
            (distance,) = struct.unpack_from("<i", code, at + 1)
            if 0 <= target - (addr + at + 5 + distance) <= _PADDING:
                return True
    return False
