# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Debug files are looked for beside the file itself, in the root of a process that has it."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from otelagent.host.kept import KeptFile
from otelagent.namers import Namers
from otelagent.symbolize import native


@pytest.fixture
def opened(monkeypatch):
    """Notes the roots that symbols were opened with."""
    roots = []

    class Symbols:
        closed = rests = 0

        @classmethod
        def open(cls, _source, _path, *, root, debuginfod, cache_dir):
            assert (debuginfod, cache_dir is not None) == (None, True)
            roots.append(root)
            return cls()

        def rest(self):
            Symbols.rests += 1

        def close(self):
            Symbols.closed += 1

    monkeypatch.setattr(native, "NativeSymbols", Symbols)
    return SimpleNamespace(roots=roots, symbols=Symbols)


def loaded(path, pid, shown=None):
    executable = SimpleNamespace(path=str(shown or path))
    return SimpleNamespace(source=KeptFile.open(str(path)), executable=executable, pid=pid)


def test_root_of_a_process_that_has_this_very_file(opened, tmp_path):
    path, other = tmp_path / "prog", tmp_path / "other"
    path.write_bytes(b"x")
    other.write_bytes(b"y")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    files = {
        1: loaded(path, os.getpid()),
        2: loaded(path, os.getpid(), other),  # another file is there by now
        3: loaded(path, child.pid),
        4: loaded(path, 0),
    }
    known = Namers(symbols=True, debuginfod="", by_key=files)
    for key in files:
        assert known.file(key)
        assert known.file(key)  # opened once

    assert opened.roots == [f"/proc/{os.getpid()}/root", "", "", ""]
    for each in files.values():
        each.source.close()


def test_symbols_that_nothing_asked_for_are_given_back(opened, tmp_path):
    path = tmp_path / "prog"
    path.write_bytes(b"x")
    known = Namers(symbols=True, debuginfod="", by_key={1: loaded(path, 0), 2: loaded(path, 0)})
    for turn in range(4):
        known.file(1)
        if turn == 0:
            known.file(2)
        known.rest(2)

    assert set(known._files) == {1}
    assert opened.symbols.closed == 1
    assert opened.symbols.rests == 4 + 3  # each report, as long as it is open
    assert known.file(2)  # and got again
    assert len(opened.roots) == 3
