# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every family of the table can be asked, and files that are none are told apart."""

import importlib
import os
import sys
from pathlib import Path

import pytest

from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.interpreters.registry import FAMILIES, detect


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_family_offers_what_the_registry_calls(family):
    module = importlib.import_module(family.module)

    assert callable(module.detect)
    assert callable(module.attach)


def test_own_interpreter_is_detected_and_its_c_library_is_not():
    found = {}
    for line in Path(f"/proc/{os.getpid()}/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[5:]
        if path and path[0] not in found and path[0].startswith("/") and ".so" in path[0]:
            found[path[0]] = detect(ElfFile(BytesSource(Path(path[0]).read_bytes())))
    binary = str(Path(sys.executable).resolve())
    found[binary] = detect(ElfFile(BytesSource(Path(binary).read_bytes())))

    pythons = [detected for detected in found.values() if detected]
    assert len(pythons) == 1
    assert pythons[0].family.name == "python"
    assert pythons[0].eval_loop == tuple(sorted(pythons[0].eval_loop))
    assert any("libc.so" in path and detected is None for path, detected in found.items())
