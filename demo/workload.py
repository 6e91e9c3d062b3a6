# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Some seconds of work of many kinds, for the demo: `workload.py SECONDS [C PROGRAM]`.

Threads of Python in JSON, zlib, hashlib and sqlite3, a child process in C, and
files and pipes to keep the kernel busy.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

RECORDS = [{"id": i, "name": f"customer {i}", "tags": ["new", "paid"] * 3} for i in range(300)]


def parse_orders() -> int:
    """Spend time in the json extension and in pure Python above it."""
    text = json.dumps(RECORDS)
    return sum(len(record["tags"]) for record in json.loads(text))


def fibonacci(n: int) -> int:
    """Recurse in pure Python."""
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def compress_report() -> int:
    """Spend time in zlib and OpenSSL: two C libraries below two C extensions."""
    data = json.dumps(RECORDS).encode() * 4
    return len(zlib.compress(data, 6)) + hashlib.sha256(data * 8).digest()[0]


def query_database(connection: sqlite3.Connection) -> int:
    """Sort and join in SQLite."""
    rows = [(random.randrange(1000), f"item {i}") for i in range(3000)]
    connection.execute("create temp table if not exists t (a integer, b text)")
    connection.execute("delete from t")
    connection.executemany("insert into t values (?, ?)", rows)
    query = "select count(*) from t x join t y on x.a = y.a where x.b < y.b"
    return connection.execute(query).fetchone()[0]


def copy_file(folder: Path) -> int:
    """Make the kernel copy bytes."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(os.urandom(1 << 20))
    target.write_bytes(source.read_bytes())
    return target.stat().st_size


def repeat(end: float, *jobs: object) -> None:
    """Run the jobs in turn until the time is over."""
    while time.monotonic() < end:
        for job in jobs:
            job()


def serve_queries(end: float) -> None:
    """Give SQLite a thread and a database of its own."""
    with sqlite3.connect(":memory:") as connection:
        repeat(end, lambda: query_database(connection))


def main() -> int:
    """Start everything, and wait for it."""
    seconds = float(sys.argv[1])
    end = time.monotonic() + seconds
    command = [*sys.argv[2:3], str(int(seconds))]
    child = subprocess.Popen(command) if sys.argv[2:] else None
    with tempfile.TemporaryDirectory() as folder:
        threads = [
            threading.Thread(target=serve_queries, args=(end,), name="database"),
            threading.Thread(target=repeat, args=(end, compress_report), name="compressor"),
            threading.Thread(
                target=repeat, args=(end, lambda: copy_file(Path(folder))), name="copier"
            ),
        ]
        for thread in threads:
            thread.start()
        repeat(end, parse_orders, lambda: fibonacci(16))
        for thread in threads:
            thread.join()
    return child.wait() if child else 0


if __name__ == "__main__":
    sys.exit(main())
