# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where functions without a size end in a stripped file: behind them lie others without a name."""

import struct
import subprocess

import pytest

from otelagent._native import ffi, lib
from otelagent.formats.elf import EM_AARCH64, EM_X86_64
from otelagent.symbolize.native import NativeSymbols
from otelagent.symbolize.result import OUTSIDE
from tests.symbolize.builds import need, run
from tests.symbolize.test_native import open_symbols

SOURCE = """
	.globl described, bare, last
	.text
described:
	.cfi_startproc
	xor %eax, %eax
	ret
	.cfi_endproc
	.p2align 6
after_described:
	.rept 80
	nop
	.endr
	ret
bare:
	test %edi, %edi
	jz 1f
	ret
1:	xor %eax, %eax
2:	jmp 2b
after_bare:
	.rept 80
	nop
	.endr
	ret
last:
	.cfi_startproc
	nop
	ret
	.cfi_endproc
"""


def extent(code: bytes, machine: int = EM_X86_64) -> int:
    return lib.oa_code_extent(ffi.from_buffer("u8[]", code), len(code), machine)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    need("gcc")
    need("strip")
    folder = tmp_path_factory.mktemp("extent")
    (folder / "a.s").write_text(SOURCE)
    run("gcc", "-shared", "-nostdlib", "-o", folder / "whole.so", folder / "a.s")
    run("strip", "-o", folder / "stripped.so", folder / "whole.so")
    return folder


def own(symbols: NativeSymbols, start: int, end: int) -> list[str]:
    found = [symbols.name(addr, is_return_address=False) for addr in range(start, end)]
    return [each.lines[0].function.name if each.lines else each.reason for each in found]


@pytest.mark.skipif("x86_64" not in subprocess.getoutput("uname -m"), reason="assembly of x86-64")
def test_nothing_behind_a_function_has_its_name(whole):
    """Whether it is described (`.eh_frame`) or not."""
    start = _starts(whole / "whole.so")
    symbols = open_symbols(whole / "stripped.so")

    for name, size in (("described", 3), ("bare", 9), ("last", 2)):
        assert own(symbols, start[name], start[name] + size) == [name] * size
    for name in ("after_described", "after_bare"):
        assert own(symbols, start[name], start[name] + 81) == [OUTSIDE] * 81


def _starts(path):
    lines = subprocess.check_output(["nm", path], text=True).splitlines()
    return {name: int(addr, 16) for addr, _, name in map(str.split, lines)}


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("c3", 1),
        ("90c390", 2),
        ("7401c390c390", 5),  # je over the first ret
        ("7400c390", 3),  # je to the ret
        ("75fdc390", 3),  # jne back
        ("eb0090", 2),  # jmp on: may be the call of another
        ("ffe090", 2),  # jmp *%rax
        ("e800000000c390", 6),  # a call goes on
        ("0f0b90", 2),  # ud2
        ("747fc3", 3),  # the branch leads beyond what is there
        ("7402c30690", 3),  # 06 is no instruction
        ("06", 0),
        ("", 0),
    ],
)
def test_code_of_x86_64_ends_where_nothing_leads_on(code, size):
    assert extent(bytes.fromhex(code)) == size


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([0xD65F03C0, 0], 4),  # ret
        ([0xD503201F, 0x14000010, 0], 8),  # nop; b
        ([0x54000040, 0xD65F03C0, 0xD503201F, 0xD65F03C0, 1], 16),  # b.eq over the ret
        ([0x34000040, 0xD65F03C0, 0xD65F03C0, 1], 12),  # cbz
        ([0x36000040, 0xD65F03C0, 0xD65F03C0, 1], 12),  # tbz
        ([0x54FFFFE0, 0xD65F03C0, 1], 8),  # b.eq back
        ([0xD63F0000, 0xD61F0200, 1], 8),  # blr goes on; br
        ([0xD4200000, 1], 4),  # brk
        ([0xD503201F, 1], 4),  # udf
    ],
)
def test_code_of_arm64_ends_where_nothing_leads_on(words, size):
    assert extent(struct.pack(f"<{len(words)}I", *words), EM_AARCH64) == size


def test_of_another_machine_nothing_is_known():
    assert extent(b"\xc3", 3) == 0
