# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Shapes of Python work: `mixed.py SHAPE SECONDS` (seconds of CPU time of each thread)."""

import bisect
import collections
import decimal
import hashlib
import itertools
import json
import multiprocessing
import re
import sqlite3
import sys
import threading
import time
import zlib


def is_over():
    return time.thread_time() >= SECONDS


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


class Tree:
    def __init__(self, depth):
        self.children = [Tree(depth - 1) for _ in range(2)] if depth else []

    def __iter__(self):
        yield self
        for child in self.children:
            yield from child

    def __len__(self):
        return 1 + sum(len(child) for child in self.children)


def pure():
    while not is_over():
        fib(15)
        len(Tree(6))
        sum(len(node.children) for node in Tree(5))
        sorted(range(500), key=lambda value: -value)
        try:
            raise_deep(20)
        except ValueError:
            pass


def raise_deep(depth):
    if not depth:
        raise ValueError(depth)
    return raise_deep(depth - 1)


def callback(match):
    return str(len(match.group()))


def extensions():
    database = sqlite3.connect(":memory:")
    database.create_function("fib", 1, fib)
    database.execute("create table t (a integer, b text)")
    database.executemany("insert into t values (?, ?)", [(i, str(i)) for i in range(500)])
    data = {str(i): list(range(20)) for i in range(50)}
    while not is_over():
        text = json.dumps(data, sort_keys=True)
        json.loads(text)
        re.sub("[0-9]+", callback, text)
        zlib.decompress(zlib.compress(text.encode()))
        hashlib.sha256(text.encode() * 20).hexdigest()
        hashlib.pbkdf2_hmac("sha512", b"word", b"salt", 200)
        decimal.getcontext().prec = 200
        decimal.Decimal(2).sqrt()
        database.execute("select sum(a), max(b), max(fib(a % 8)) from t group by a % 7").fetchall()
        collections.Counter(itertools.chain.from_iterable([text] * 3)).most_common()
        bisect.bisect(sorted(text), "5")


def threads():
    runners = [threading.Thread(target=target) for target in (pure, extensions, pure)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()


def processes():
    with multiprocessing.get_context("fork").Pool(3) as pool:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            pool.map(fib, [16] * 60)
            fib(17)


def three_quarters():
    return [number * number for number in range(3000)]


def one_quarter():
    return [number * number for number in range(1000)]


def split():
    while not is_over():
        for _ in range(50):
            three_quarters()
            one_quarter()


if __name__ == "__main__":
    SECONDS = float(sys.argv[2])
    {
        "pure": pure,
        "extensions": extensions,
        "threads": threads,
        "processes": processes,
        "split": split,
    }[sys.argv[1]]()
