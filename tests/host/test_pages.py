# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Pages of libraries that are not in use are given back; what is not in a file never is."""

import json
import subprocess
import sys

from otelagent.host import pages

COMMON = """
import ctypes, decimal, json, mmap, re, ssl
from otelagent._native import lib
from otelagent.host.pages import release_libraries
def mappings():
    found, rows = [], open("/proc/self/smaps").read().splitlines()
    for row in rows:
        if head := re.match(r"(\\w+)-(\\w+) (....) \\S+ \\S+ \\d+ *(.*)", row):
            found.append({"start": int(head[1], 16), "end": int(head[2], 16), "may": head[3],
                          "name": head[4]})
        else:
            key, _, value = row.partition(":")
            if value.endswith("kB"):
                found[-1][key] = int(value[:-2])
    return found
def resident(found):
    return sum(one["Rss"] for one in found if one["name"].startswith("/") and "w" not in one["may"])
"""
RELEASE = """
before = mappings()
released = release_libraries()
after = mappings()
anonymous = [{one["start"]: one["Anonymous"] for one in found if one["name"].startswith("/")}
             for found in (before, after)]
known = ssl.create_default_context().get_ciphers() and decimal.Decimal(2).sqrt()
print(json.dumps([released, resident(before), resident(after), anonymous, str(known)]))
"""
WRITTEN = """
libc = ctypes.CDLL(None)
page = mmap.PAGESIZE
place = next(one for one in mappings() if "_decimal" in one["name"] and one["may"] == "r--p")
address = ctypes.c_void_p(place["start"])
def protect(how):
    assert libc.mprotect(address, ctypes.c_size_t(page), how) == 0
was = ctypes.string_at(place["start"], page)
protect(3)
ctypes.memset(place["start"] + 60, 0x5A, 4)
protect(1)
neighbour = ctypes.string_at(place["start"] + page, 1)
released = release_libraries()
now = ctypes.string_at(place["start"], page)
print(json.dumps([released, now[60:64] == b"ZZZZ" and now[64:] == was[64:]]))
"""


def run(program: str):
    command = [sys.executable, "-c", COMMON + program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_code_that_is_not_in_use_is_given_back_and_comes_back():
    """Of what the start left, most is not in use; no page that was written changes."""
    released, before_kib, after_kib, (was, now), root = run(RELEASE)

    assert released > 4 << 20
    assert after_kib < before_kib / 2
    assert was == now
    assert sum(was.values()) > 100  # relocated constants among them
    assert root.startswith("1.4142135")


def test_a_page_of_constants_that_was_written_is_kept():
    """As a debugger's breakpoint: what the file has there is something else."""
    released, is_kept = run(WRITTEN)

    assert released > 1 << 20
    assert is_kept


def test_it_is_done_soon_after_the_start_and_each_minute(monkeypatch):
    now, times = [100.0], []
    monkeypatch.setattr(pages, "release_libraries", lambda: times.append(now[0]))
    residence = pages.Residence(lambda: now[0])
    for _ in range(200):
        residence.work()
        now[0] += 1

    assert times == [115.0, 175.0, 235.0, 295.0]
