# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from otelagent.abi import _generated as abi
from otelagent.formats.elf import EM_X86_64, BytesSource, ElfFile
from otelagent.unwind.extract import extract


def test_the_vdso_has_rows_for_its_functions():
    maps = Path("/proc/self/maps").read_text().splitlines()
    line = next((line for line in maps if line.endswith("[vdso]")), None)
    if line is None:
        pytest.skip("no vDSO in this process")
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    with open("/proc/self/mem", "rb") as memory:  # noqa: PTH123
        memory.seek(start)
        elf = ElfFile(BytesSource(memory.read(end - start)))
    if elf.machine != EM_X86_64:
        pytest.skip("the vDSO of arm64 describes only its signal trampoline")
    symbols = elf.find_symbols("__vdso_clock_gettime", "__vdso_gettimeofday")
    table = extract(elf)

    assert len(symbols) == 2
    for symbol in symbols.values():
        assert not table.find(symbol.value) & abi.Row.COMMAND
