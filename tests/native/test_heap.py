# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

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
