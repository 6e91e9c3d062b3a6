# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, sys
from otelagent._native import lib
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def used(size):
    place = libc.malloc(size)
    ctypes.memset(place, 1, size)
    return place
if sys.argv[1] == "bound":
    lib.oa_bound_heap()
libc.free(used(16 << 20))
before = resident()
large = [used(4 << 20) for _ in range(3)]
small = used(200)
for place in large:
    libc.free(place)
print(resident() - before)
"""


def growth(how: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(run.stdout)


def test_large_pieces_go_back_to_the_kernel_when_they_are_freed():
    """Left alone, 12 MB stay in the heap because of 200 bytes behind them."""
    assert growth("alone") > 8 << 20
    assert growth("bound") < 1 << 20


HUGE = """
import ctypes, mmap, sys
from otelagent._native import lib
if sys.argv[1] == "bound":
    lib.oa_bound_heap()
memory = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)  # as the kernel does by itself on many machines
memory[8 << 20] = 1
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
lines = open("/proc/self/smaps").read().splitlines()
at = next(n for n, line in enumerate(lines) if line.startswith(f"{start:x}-"))
print(next(line.split()[1] for line in lines[at:] if line.startswith("AnonHugePages:")))
"""


def huge_kib(how: str) -> int:
    command = [sys.executable, "-c", HUGE, how]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_a_byte_of_a_large_buffer_does_not_make_a_huge_page_resident():
    if huge_kib("alone") == 0:
        pytest.skip("this kernel gives nobody a huge page")

    assert huge_kib("bound") == 0
