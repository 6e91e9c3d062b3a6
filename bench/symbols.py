# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of preparing symbol tables: `python bench/symbols.py [FILE…]`.

Each file is opened in a process of its own. `open` is from nothing to the first
name; `names` is per address, 1,000 random ones, the first time they are asked for.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

LIBRARIES = ("libc.so.6", "libLLVM-*.so.1", "libjvm.so")
PROGRAMS = ("node", "chromium", "go")


def find_files() -> list[str]:
    folders = [Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-gnu")]
    found = [str(path) for name in LIBRARIES for folder in folders for path in folder.glob(name)]
    programs = [shutil.which(name) for name in PROGRAMS]
    found += [program for program in programs if program]
    return list(dict.fromkeys(str(Path(path).resolve()) for path in found))


def anon_kib() -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0])


def measure(path: str) -> dict[str, float]:
    from otelagent import _native  # noqa: F401 (not to be counted)
    from otelagent.formats.elf import ElfFile
    from otelagent.host.files import open_file
    from otelagent.symbolize.native import NativeSymbols
    from otelagent.symbolize.symtab import executable_spans

    source = open_file(path)
    spans = executable_spans(ElfFile(source))
    low, high = max(spans, key=lambda span: span[1] - span[0])
    before, peak_before = anon_kib(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    symbols = NativeSymbols.open(source, path, debug_dirs=(), lines=False)
    symbols.name(low, is_return_address=False)
    opened = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before
    held = anon_kib() - before
    rng = random.Random(1)
    addresses = [rng.randrange(low, high) for _ in range(1000)]
    began = time.perf_counter()
    named = [symbols.name(addr, is_return_address=False) for addr in addresses]
    names = time.perf_counter() - began
    return {
        "megabytes": source.size / 1e6,
        "open_ms": opened * 1e3,
        "name_us": names * 1e3,
        "held_mb": held / 1024,
        "peak_mb": peak / 1024,
        "named": sum(bool(one.lines) for one in named) / 10,
    }


def main(paths: list[str]) -> None:
    print(
        f"{'file':32} {'MB':>6} {'open ms':>8} {'µs/name':>8} {'held':>6} {'peak':>6} {'named':>6}"
    )
    for path in paths:
        command = [sys.executable, __file__, "--one", path]
        out = subprocess.run(command, capture_output=True, text=True, check=False)
        if out.returncode:
            print(f"{Path(path).name:32} {out.stderr.strip().splitlines()[-1]}")
            continue
        r = json.loads(out.stdout)
        print(
            f"{Path(path).name:32} {r['megabytes']:6.1f} {r['open_ms']:8.1f} {r['name_us']:8.1f}"
            f" {r['held_mb']:6.1f} {r['peak_mb']:6.1f} {r['named']:5.1f}%"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        main(sys.argv[1:] or find_files())
