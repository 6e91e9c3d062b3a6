# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import itertools
import sys
from pathlib import Path

import pytest

from otelagent.abi import _generated as abi
from otelagent.errors import BadElf
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.unwind.extract import extract
from tools.oracle import compare_file, system_files


def loaded_libc():
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if "libc.so" in path or "ld-musl" in path:
            return Path(path)
    pytest.skip("no C library in this process's mappings")


@pytest.fixture(scope="module")
def libc():
    elf = ElfFile(BytesSource(loaded_libc().read_bytes()))
    return elf, extract(elf)


def test_libc_has_a_row_for_every_function_symbol(libc):
    elf, table = libc
    symbols = elf.find_symbols("malloc", "free", "qsort", "printf", "pthread_create")

    assert len(symbols) == 5
    for symbol in symbols.values():
        assert not table.find(symbol.value) & abi.Row.COMMAND


def test_function_entry_has_the_return_address_on_top_of_the_stack(libc):
    elf, table = libc
    if elf.machine != 62:
        pytest.skip("x86-64 rules")
    rule = table.rule(table.find(elf.find_symbols("qsort")["qsort"].value))

    assert (rule.cfa_kind, rule.cfa_reg, rule.cfa_offset) == (abi.CfaKind.REG, abi.Reg.X86_RSP, 8)
    assert (rule.ra_kind, rule.ra_offset) == (abi.RegKind.CFA, -8)
    assert rule.fp_kind == abi.RegKind.SAME


def test_arrays_are_consistent_and_pages_begin_at_their_start(libc):
    _, table = libc

    assert table.is_consistent()
    assert table.row_count > 1000
    assert table.rule_count < 2000


def test_address_outside_of_the_code_has_no_row(libc):
    _, table = libc

    assert table.find(0) == abi.Row.NONE
    assert table.find((1 << 48) - 1) == abi.Row.NONE
    assert table.find((1 << 64) - 1) == abi.Row.NONE


def test_file_for_another_machine_is_refused():
    header = bytearray(ElfFile(BytesSource(Path(sys.executable).read_bytes())).read(0, 64))
    header[18:20] = b"\xf3\x00"

    with pytest.raises(BadElf, match="machine 243"):
        extract(ElfFile(BytesSource(bytes(header))))


def test_rules_equal_those_of_readelf():
    """CFA, frame pointer and return address at both ends of every row of some system files."""
    wanted = itertools.islice(system_files(["/usr/bin"]), 0, 80, 10)
    results = [compare_file(path) for path in [loaded_libc(), *wanted]]

    assert [r.disagreements for r in results if r and r.disagreements] == []
    assert sum(r.rows for r in results if r) > 10_000
    assert sum(r.supported for r in results if r) == sum(r.covered for r in results if r)
