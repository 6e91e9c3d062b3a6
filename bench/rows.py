# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Time from a file to map-ready rows, and its peak memory: `bench/rows.py [FILE…]`.

CPU time of one thread, file in the page cache, reading included, best of `WARM_RUNS`, in
a process that keeps the memory that it once had; `fresh` is the same in a new child, as
`record` does it, where each page is touched for the first time. The peer's column is
what the Go peer takes for the same file on this kind of machine, where it was
measured; the aim is a third of it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from glob import glob
from pathlib import Path

RUNS, WARM_RUNS = 10, 50
KEPT_BYTES = 32 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
PEER_MS = {"libc": 1.8, "libLLVM": 84.0, "node": 51.0, "libjvm": 22.0, "chromium": 4.8, "go": 2.2}
FILES = {
    "libc": ("/lib/*-linux-gnu/libc.so.6",),
    "python": ("/usr/lib/*/libpython3*.so.1.0", "/usr/bin/python3"),
    "libLLVM": ("/usr/lib/*/libLLVM-14.so.1", "/usr/lib/*/libLLVM*.so.1"),
    "node": ("/usr/bin/node", "/usr/local/bin/node"),
    "libjvm": ("/usr/lib/jvm/*/lib/server/libjvm.so",),
    "chromium": ("/usr/lib/chromium/chromium", "/opt/google/chrome/chrome"),
    "go": ("/usr/local/go/bin/go", "/usr/lib/go-*/bin/go"),
}


def find_files() -> dict[str, str]:
    """Name → path of those that this machine has."""
    found = {}
    for name, patterns in FILES.items():
        paths = [path for pattern in patterns for path in sorted(glob(pattern))]  # noqa: PTH207 (absolute patterns)
        if paths:
            found[name] = str(Path(paths[0]).resolve())
    return found


def extract_file(path: str) -> tuple[float, int]:
    """Extract what is described, once: CPU milliseconds (others may use the machine) and rows."""
    from otelagent.formats.elf import ElfFile
    from otelagent.host.files import open_file
    from otelagent.unwind.extract import extract_described

    start = time.thread_time()
    with open_file(path) as source:
        table, _, _ = extract_described(ElfFile(source))
    return (time.thread_time() - start) * 1e3, table.row_count


def extract_all(path: str) -> float:
    """Extract that and the rows of undescribed code, once: CPU milliseconds."""
    from otelagent.formats.elf import ElfFile
    from otelagent.host.files import open_file
    from otelagent.unwind.extract import extract

    start = time.thread_time()
    with open_file(path) as source:
        extract(ElfFile(source))
    return (time.thread_time() - start) * 1e3


def extract_fresh(path: str) -> float:
    """Extract what is described, once, in a new child: CPU milliseconds."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, repr(extract_file(path)[0]).encode())
        os._exit(0)
    told = os.read(reader, 64)
    os.close(reader)
    os.close(writer)
    os.waitpid(pid, 0)
    return float(told)


def keep_memory() -> None:
    """Let malloc keep what is given back, so that later runs touch no new pages."""
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        ctypes.CDLL(None).mallopt(option, KEPT_BYTES)


def peak_kib(path: str) -> int:
    """Growth of the peak RSS by one extraction, in a process that did nothing before."""
    command = [sys.executable, __file__, "--peak", path]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def print_peak(path: str) -> None:
    """Extract a file and print by how many KiB the peak RSS grew."""
    extract_all("/bin/true")  # imports
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    extract_all(path)
    print(_peak() - before)


def _peak() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def measure(files: dict[str, str]) -> list[dict[str, object]]:
    """Measure each file: best time, rows, peak memory."""
    extract_file(sys.executable)  # imports
    fresh = {name: min(extract_fresh(path) for _ in range(RUNS)) for name, path in files.items()}
    keep_memory()
    results: list[dict[str, object]] = []
    for name, path in files.items():
        gc.collect()
        runs = [extract_file(path) for _ in range(WARM_RUNS)]
        best, peer = min(ms for ms, _ in runs), PEER_MS.get(name)
        with_code = min(extract_all(path) for _ in range(RUNS))
        results.append(
            {
                "name": name,
                "path": path,
                "ms": round(best, 2),
                "rows": runs[0][1],
                "fresh_ms": round(fresh[name], 2),
                "peak_mib": round(peak_kib(path) / 1024, 1),
                "peer_ms": peer,
                "of_peer": round(best / peer, 2) if peer else None,
                "with_code_ms": round(with_code, 2),
            }
        )
    return results


def measure_all() -> dict[str, float]:
    """Give flat figures of the files that are here, for `run.py`."""
    files = find_files()
    for name in FILES.keys() - files.keys():
        print(f"left out: rows of {name} (not on this machine)", file=sys.stderr)
    figures: dict[str, float] = {}
    for result in measure(files):
        values = (
            (key, result[key]) for key in ("ms", "fresh_ms", "peak_mib", "of_peer", "with_code_ms")
        )
        figures |= {
            f"rows.{result['name']}.{key}": value
            for key, value in values
            if isinstance(value, float)
        }
    return figures


def main() -> None:
    """Print a table, or JSON with `--json`."""
    if sys.argv[1:2] == ["--peak"]:
        print_peak(sys.argv[2])
        return
    arguments = [a for a in sys.argv[1:] if a != "--json"]
    results = measure({Path(a).name: a for a in arguments} or find_files())
    if "--json" in sys.argv:
        print(json.dumps(results, indent=1))
        return
    print(
        f"{'file':10} {'ms':>8} {'fresh':>8} {'rows':>9} {'peak MiB':>9} "
        f"{'peer ms':>8} {'ratio':>6} {'with code':>9}"
    )
    for r in results:
        print(
            f"{r['name']:10} {r['ms']:8} {r['fresh_ms']:8} {r['rows']:9} {r['peak_mib']:9} "
            f"{r['peer_ms'] or '-':>8} {r['of_peer'] or '-':>6} "
            f"{r['with_code_ms']:>9}"
        )


if __name__ == "__main__":
    main()
