# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of arm64 code from its instructions, against what the compiler said of it."""

import struct
import subprocess
from itertools import pairwise

import pytest

from otelagent.abi._generated import RegKind
from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file
from otelagent.unwind.code import read_symbols
from otelagent.unwind.code_arm64 import ENTRY, State, add_rows, derive
from otelagent.unwind.rows import RowBuilder
from tests.symbolize.test_native import need
from tests.unwind.derived import described

SOURCE = """
void *alloca(unsigned long);
int outer(int, void *);
_Noreturn void never(int);
int leaf(int x) { return x * 3; }
int calls(int x) { int a[10]; outer(x, a); return a[3] + outer(1, 0); }
int large(int x) { char a[70000]; return outer(x, a) + a[x]; }
int grows(int x) { char *a = x ? alloca(x) : 0; outer(x, a); return outer(x + 1, a); }
int loops(int x, int y) { int s = 0; for (; x > 0; x--) s += outer(x, &y) * y; return s; }
int early(int x) { if (x < 3) return 7; if (x == 5) never(x); return outer(x, 0) + outer(2, 0); }
double floats(double a, double b) { return outer(1, 0) * a + outer(2, 0) * b; }
int table(int x, int y) {
  switch (x) { case 0: return outer(1, &y); case 1: y++; break; case 2: return outer(y, 0) * 9;
    case 3: y *= 7; break; case 4: return outer(3, 0) - 1; case 5: return y; default: y = 8; }
  return outer(y, &x) + y; }
int tail(int x) { return x ? outer(x, 0) : 4; }
"""
STP, LDP = 0xA9BF7BFD, 0xA8C17BFD  # stp x29, x30, [sp, #-16]! and ldp x29, x30, [sp], #16
RET, NOP, SVC, BRK = 0xD65F03C0, 0xD503201F, 0xD4000001, 0xD4200000
ADDR = 0x1000


def states(*words):
    """Give the state before each word; None where there is none."""
    found = [None] * len(words)
    code = struct.pack(f"<{len(words)}I", *words)
    for start, size, state in derive(ADDR, code, ()):
        if not state.is_known():
            continue
        for at in range(start, start + size, 4):
            found[(at - ADDR) // 4] = state
    return found


FRAMED = State(16, -1, (16, 8))


def test_a_leaf_and_a_system_call_return_through_the_link_register():
    assert states(NOP, SVC, RET) == [ENTRY] * 3


def test_what_is_pushed_and_popped_is_told_at_each_instruction():
    assert states(STP, NOP, LDP, RET) == [ENTRY, FRAMED, FRAMED, ENTRY]


def test_a_branch_carries_its_state_over_a_return():
    b_eq = 0x54000060  # three words on
    assert states(STP, b_eq, LDP, RET, NOP, LDP, RET)[4:] == [FRAMED, FRAMED, ENTRY]


def test_where_two_ways_disagree_nothing_is_said():
    b_eq = 0x54000040  # two words on, without the frame
    assert states(b_eq, STP, NOP, RET)[2:] == [None, None]


def test_a_call_loses_a_link_register_that_was_not_saved():
    assert states(0x94000400, NOP, RET)[1:] == [None, None]


@pytest.mark.parametrize("word", [0x910003BF, 0xD10043BF])  # mov sp, x29; sub sp, x29, #16
def test_the_frame_pointer_gives_the_stack_pointer_back(word):
    mov, away = 0x910003FD, 0xCB2063FF  # mov x29, sp; sub sp, sp, x0
    found = states(STP, mov, away, NOP, word, NOP, BRK)

    assert found[3] == State(-1, 16, (16, 8))
    assert found[5].sp == (16 if word == 0x910003BF else 32)


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-Os"])
@pytest.mark.parametrize("more", [(), ("-mbranch-protection=standard",)])
def test_rows_are_those_that_the_compiler_describes(tmp_path, level, more):
    need("aarch64-linux-gnu-gcc")  # clang 14 does not describe prologues
    source, target = tmp_path / "source.c", tmp_path / "library.so"
    source.write_text(SOURCE)
    flags = [level, *more, "-fPIC", "-shared", "-nostdlib", "-w"]
    subprocess.run(["aarch64-linux-gnu-gcc", *flags, "-o", target, source], check=True)
    with open_file(str(target)) as file:
        elf = ElfFile(file)
        text = elf.section(".text")
        theirs = described(elf)
        builder = RowBuilder([(s.vaddr, s.vaddr + s.filesz) for s in elf.executable_loads()])
        symbols = read_symbols(elf, [(text.addr, text.addr + text.size)])
        starts = [value for _, _, value, _ in struct.iter_unpack("<IIQQ", symbols)]
        add_rows(builder, text.addr, elf.section_data(text), starts, 3)
        ours = builder.finish([])

    wrong, unknown = [], 0
    for addr in range(text.addr, text.addr + text.size, 4):
        one, other = ours.find(addr), theirs.find(addr)
        unknown += one >= 32768 > other
        if one < 32768 > other and not is_same(ours.rule(one), theirs.rule(other)):
            wrong.append(hex(addr))
    assert wrong == []
    assert unknown * 4 <= text.size * 0.05


def is_same(one, other):
    """Compare rules; CFAs by sp and by x29 cannot be compared without the registers' values."""
    if one.cfa_reg == other.cfa_reg and one.cfa_offset != other.cfa_offset:
        return False
    # What was restored is in the register and in its slot: compilers say either.
    return saved(one) == saved(other) or not any(saved(one))


def saved(rule):
    kinds = RegKind.SAME, RegKind.IN
    link = 0 if rule.ra_kind in kinds else rule.ra_offset
    return rule.fp_kind, rule.fp_offset, link


@pytest.mark.parametrize(
    ("word", "is_function"),
    [(0xD503233F, True), (0xD503237F, True), (0xD503245F, True), (0xD503249F, False)],
)
def test_signing_begins_a_function_and_no_case_of_a_table(word, is_function):
    """paciasp, pacibsp and bti c; a table leads to bti j. Seen in libc: after `b`, by a pointer."""
    br, b_back = 0xD61F0020, 0x17FFFFFF
    found = states(STP, br, NOP, LDP, b_back, NOP, word, NOP, RET)

    assert found[6] == (ENTRY if is_function else FRAMED)


def test_any_words_are_safe():
    words = [(at * 2654435761) & 0xFFFFFFFF for at in range(1, 20_000)]

    spans = list(derive(ADDR, struct.pack("<19999I", *words), ()))
    assert all(one[0] + one[1] <= other[0] for one, other in pairwise(spans))
