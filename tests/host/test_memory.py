# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of a live process is read exactly, or an error says why not."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from otelagent.errors import MemoryFault, ProcessGone
from otelagent.host.memory import MAX_READ_BYTES, ProcessMemory


@pytest.fixture
def text():
    return ctypes.create_string_buffer(b"otelagent" * 5000)


def test_reads_what_is_there(text):
    memory = ProcessMemory(os.getpid())

    assert memory.read(ctypes.addressof(text), 45_000) == text.raw[:45_000]
    assert memory.read(ctypes.addressof(text), 0) == b""


def test_fallback_reads_the_same(text):
    """Where process_vm_readv is denied, `/proc/PID/mem` answers."""
    memory = ProcessMemory(os.getpid())

    read = memory._read_file(ctypes.addressof(text), 45_000)

    assert read == text.raw[:45_000]
    assert memory.read(ctypes.addressof(text), 9) == b"otelagent"
    with pytest.raises(MemoryFault):
        memory.read(8, 8)
    memory.close()


@pytest.mark.parametrize(
    ("addr", "size"),
    [(0, 8), (1 << 63, 8), ((1 << 64) - 4, 8), (-8, 8), (1 << 70, 8), (4096, MAX_READ_BYTES + 1)],
)
def test_unmapped_or_absurd_is_a_fault(addr, size):
    with pytest.raises(MemoryFault):
        ProcessMemory(os.getpid()).read(addr, size)


def test_partly_mapped_is_a_fault():
    """What ends inside is not given in part."""
    last = max(
        int(line.split("-")[1].split()[0], 16)
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "[stack]" in line
    )

    with pytest.raises(MemoryFault):
        ProcessMemory(os.getpid()).read(last - 8, 16)


def test_dead_process_is_gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    with pytest.raises(ProcessGone):
        ProcessMemory(child.pid).read(4096, 8)
    with pytest.raises(ProcessGone):
        ProcessMemory(child.pid)._read_file(4096, 8)
