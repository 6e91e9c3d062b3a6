# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from otelagent._native import ffi, lib
from otelagent.abi import _generated as abi
from otelagent.formats.elf import EM_AARCH64, EM_X86_64, BytesSource, ElfFile, Section
from otelagent.unwind import code as code_module
from otelagent.unwind.cache import RowCache
from otelagent.unwind.describe import describe_row
from otelagent.unwind.extract import extract, extract_both
from otelagent.unwind.load import code_key, load_rows, rows_key
from otelagent.unwind.rows import RowBuilder
from tests.builders.cfi import eh_frame, make_elf
from tests.unwind.derived import compare, derive, described

WORKLOAD = Path(__file__).parents[2] / "integration" / "workloads" / "c" / "stacks.c"
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
MUSL = Path("/usr/lib/x86_64-linux-musl/libc.so")
OTHER = lib.OA_INSN_OTHER


def decode(text):
    insn = ffi.new("struct oa_insn *")
    code = bytes.fromhex(text)
    lib.oa_x86_decode(code, len(code), insn)
    return insn


def build(tmp_path, *flags):
    compiler = flags[0]
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    out = tmp_path / "program"
    command = [*flags, "-pthread", str(WORKLOAD), "-o", str(out), "-lm", "-ldl"]
    subprocess.run(command, check=True)
    elf = ElfFile(BytesSource(out.read_bytes()))
    if elf.machine != EM_X86_64:
        pytest.skip("x86-64 only")
    return elf


def rows_of(hex_code, symbols=b"", machine=EM_X86_64):
    """Rows of made-up code at 0x1000."""
    code = bytes.fromhex(hex_code)
    text = Section(1, ".text", 1, 6, 0x1000, 0, len(code), 0, 0, 0)
    table, stats = derive(None, text, code, symbols, machine)
    return [describe_row(table, 0x1000 + at, EM_X86_64) for at in range(len(code))], stats


@pytest.mark.parametrize("early", [True, False])
def test_function_may_leave_early_with_rbp_saved_but_not_yet_used(early):
    """GMP's mpn_sqr_basecase does so for small operands; where rbp was used, it is wrong."""
    leave = "4883c418c3"
    clear = "31ed"
    code = "4883ec18 48896c2410 85ff" + (
        "7405" + leave + clear if early else "7407" + clear + leave
    )
    rows, stats = rows_of((code + "488b6c2410" + leave).replace(" ", ""))
    assert stats.wrong == (0 if early else 1)
    if early:
        assert rows[13] == "CFA = rsp+32; rbp at CFA-16; return at CFA-8"
        assert rows[17].startswith("CFA = rsp+8; rbp same")  # its slot is below the stack pointer
        assert rows[20] == rows[13]
        assert rows[29].startswith("CFA = rsp+8; rbp same")


def test_jump_to_a_label_in_a_register_has_its_own_state():
    """GMP's mpn_mullo_basecase: a jump by a table, then `lea label, %r8` and `jmp *%r8`."""
    table = "85ff 7901 c3 4c8d0df9100000 4d6314b9 4d01d1 41ffe1"
    rows, stats = rows_of(
        (table + "c3 53" + "31c9" * 6 + "4c8d050300000041ffe0 5bc3").replace(" ", "")
    )
    assert stats.wrong == 0
    assert [row.split(";")[0] for row in rows[22:24]] == ["CFA = rsp+8"] * 2
    assert rows[46].startswith("CFA = rsp+16;")
    assert rows[47].startswith("CFA = rsp+8;")


@pytest.mark.parametrize("blob", [True, False])
def test_calls_of_builtins_of_v8_that_are_not_understood_keep_frame_pointers(blob):
    """`pop %r15` takes the return address off, as V8's BaselineOutOfLinePrologue does."""
    code = bytes.fromhex("415f5589e5e8f6ffffff4157c3")
    builder = RowBuilder([(0x1000, 0x1000 + len(code))])
    gaps = ffi.new("struct oa_range[]", [(0x1000, 0x1000 + len(code))])
    data = ffi.from_buffer("uint8_t[]", code)
    described_code = ffi.new("struct oa_code *", (data, len(code), 0x1000, gaps, 1, ffi.NULL))
    described_code.machine, described_code.rank = EM_X86_64, 3
    described_code.framed_calls = (0x1000, 0x2000) if blob else (0, 0)
    stats = ffi.new("struct oa_code_stats *")
    assert lib.oa_code_rows(builder.raw, described_code, stats) == 0
    assert stats.wrong == 1
    table = builder.finish([])
    rows = ["keeps frame" in describe_row(table, 0x1000 + at, EM_X86_64) for at in range(13)]
    assert rows == [blob and 5 <= at < 10 for at in range(13)]


@pytest.mark.parametrize(
    ("code", "kind", "length", "reg", "value"),
    [
        ("55", lib.OA_INSN_PUSH, 1, 5, 0),
        ("4157", lib.OA_INSN_PUSH, 2, 15, 0),
        ("6a10", lib.OA_INSN_PUSH, 2, lib.OA_INSN_NO_REG, 0),
        ("5d", lib.OA_INSN_POP, 1, 5, 0),
        ("4889e5", lib.OA_INSN_SP_TO_BP, 3, 5, 0),
        ("488bec", lib.OA_INSN_SP_TO_BP, 3, 5, 0),
        ("488d6c2440", lib.OA_INSN_SP_TO_BP, 5, 5, 0x40),
        ("488be5", lib.OA_INSN_BP_TO_SP, 3, 4, 0),
        ("488d65d8", lib.OA_INSN_BP_TO_SP, 4, 4, -0x28),
        ("4883ec28", lib.OA_INSN_ADD_SP, 4, 4, -0x28),
        ("4881c408010000", lib.OA_INSN_ADD_SP, 7, 4, 0x108),
        ("488d642418", lib.OA_INSN_ADD_SP, 5, 4, 0x18),
        ("4883e4e0", lib.OA_INSN_LOSE_SP, 4, 0, 0),
        ("488b2424", lib.OA_INSN_LOSE_SP, 4, 0, 0),
        ("4c89e4", lib.OA_INSN_REG_TO_SP, 3, 12, 0),
        ("4889e1", lib.OA_INSN_SP_TO_REG, 3, 1, 0),
        ("4889fd", lib.OA_INSN_LOSE_BP, 3, 0, 0),
        ("31ed", lib.OA_INSN_LOSE_BP, 2, 0, 0),
        ("bd01000000", lib.OA_INSN_LOSE_BP, 5, 0, 0),
        ("488b6d00", lib.OA_INSN_LOAD_BP, 4, 5, 0),
        ("48896c2418", lib.OA_INSN_STORE_BP, 5, 4, 0x18),
        ("4883fd07", OTHER, 4, 0, 0),  # cmp $7,%rbp
        ("4885ed", OTHER, 3, 0, 0),  # test %rbp,%rbp
        ("66480f6ecd", OTHER, 5, 0, 0),  # movq %rbp,%xmm1
        ("66480f7ecd", lib.OA_INSN_LOSE_BP, 5, 0, 0),  # movq %xmm1,%rbp
        ("c5f9fec5", OTHER, 4, 0, 0),  # vpaddd: xmm0, not rax
        ("c462c8f2ed", OTHER, 5, 0, 0),  # andn into r13
        ("c4e2c8f2ed", lib.OA_INSN_LOSE_BP, 5, 0, 0),  # andn into rbp
        ("c9", lib.OA_INSN_LEAVE, 1, 0, 0),
        ("f3c3", lib.OA_INSN_RETURN, 2, 0, 0),
        ("3effe0", lib.OA_INSN_JUMP_INDIRECT, 3, lib.OA_INSN_NO_REG, 0),
        ("e8fbffffff", lib.OA_INSN_CALL, 5, 0, -5),
        ("0f8500010000", lib.OA_INSN_BRANCH, 6, 0, 256),
        ("0f0b", lib.OA_INSN_STOP, 2, 0, 0),
        ("06", lib.OA_INSN_BAD, 1, 0, 0),
        ("e8fbff", lib.OA_INSN_BAD, 1, 0, 0),  # cut off
    ],
)
def test_effect_of_an_instruction(code, kind, length, reg, value):
    insn = decode(code)

    assert (insn.kind, insn.length) == (kind, length)
    if kind not in (OTHER, lib.OA_INSN_BAD):
        assert (insn.reg, insn.value) == (reg, value)


@pytest.mark.parametrize("library", [LIBC, MUSL])
def test_lengths_are_objdumps(library):
    """Every instruction of 256 KiB of a real library is as long as objdump says."""
    if not library.exists() or not shutil.which("objdump"):
        pytest.skip("needs the library and objdump")
    elf = ElfFile(BytesSource(library.read_bytes()))
    text = elf.section(".text")
    middle = text.addr + min(text.size, 1 << 19) // 2
    bounds = [f"--start-address={middle}", f"--stop-address={middle + (1 << 18)}"]
    command = ["objdump", "-d", "--no-show-raw-insn", "-w", *bounds, str(library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split(":\t") for line in listing.splitlines() if ":\t" in line]
    starts = [int(addr, 16) for addr, _ in lines]
    code, insn = elf.section_data(text), ffi.new("struct oa_insn *")
    buffer = ffi.from_buffer("uint8_t[]", code)
    wrong = []
    for (_, words), start, end in zip(lines, starts, starts[1:], strict=False):
        at = start - text.addr
        lib.oa_x86_decode(buffer + at, len(code) - at, insn)
        # objdump joins fwait with what follows, and shows what it cannot read as data
        if insn.length != end - start and code[at] != 0x9B and "(bad)" not in words:
            wrong.append((hex(start), words, insn.length))
    assert len(starts) > 1000
    assert wrong == []


@pytest.mark.parametrize(
    "flags",
    [
        ("gcc", "-O2"),
        ("gcc", "-Os"),
        ("gcc", "-O2", "-fno-omit-frame-pointer"),
        ("gcc", "-O0"),
        ("clang", "-O2"),
        ("clang", "-O2", "-fno-omit-frame-pointer"),
    ],
)
def test_rows_are_those_of_the_compiler(flags, tmp_path):
    """Nothing that is derived from code differs from what the compiler says about it."""
    elf = build(tmp_path, *flags)
    ours, stats = derive(elf, elf.section(".text"))

    count, differing = compare(ours, described(elf))

    assert differing == []
    assert count["same"] > 3 * count["other"]
    assert stats.known > 0.9 * stats.bytes  # all but a stack that is realigned by a register
    assert stats.wrong <= 0.05 * stats.functions


def test_rows_of_a_whole_c_library_are_right():
    """In glibc, which has tables, cold parts, hand-made code; 484 bytes of its CFI are wrong."""
    if not LIBC.exists():
        pytest.skip("needs glibc for x86-64")
    elf = ElfFile(BytesSource(LIBC.read_bytes()))
    ours, _ = derive(elf, elf.section(".text"))

    count, differing = compare(ours, described(elf))

    assert count["different"] <= 0.0005 * count["same"], differing[:20]
    assert count["same"] > 0.9 * sum(count.values())


def test_a_program_without_information_gets_rows(tmp_path):
    flags = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
    elf = build(tmp_path, "gcc", "-O2", *flags)

    before, after = extract_both(elf)

    burn = elf.find_symbols("burn")["burn"].value
    assert before.find(burn) == abi.Row.NONE
    assert describe_row(after, burn, elf.machine) == "CFA = rsp+8; rbp same; return at CFA-8"
    assert any("by their instructions" in source for source in after.sources)


def test_frame_of_a_simple_function():
    rows, _ = rows_of("55 4889e5 53 50 5e 5b 5d c3".replace(" ", ""))

    assert rows[0] == "CFA = rsp+8; rbp same; return at CFA-8"
    assert rows[1] == "CFA = rsp+16; rbp at CFA-16; return at CFA-8"
    assert rows[4] == rows[7] == "CFA = rbp+16; rbp at CFA-16; return at CFA-8"
    assert rows[9] == rows[0]  # the return


@pytest.mark.parametrize(
    ("code", "writes"),
    [
        ("4889f9", {1}),  # mov %rdi,%rcx
        ("b101", {1}),  # mov $1,%cl
        ("b501", {1}),  # mov $1,%ch
        ("88c5", {0, 1}),  # mov %al,%ch: to be safe, both
        ("49f7e0", {0, 2}),  # mul %r8
        ("f3a4", {0, 1, 6, 7}),  # rep movsb; to be safe, rax too
        ("4887d9", {1, 3}),  # xchg %rbx,%rcx
        ("4889e1", {1}),
        ("4839c8", set()),  # cmp
        ("c5fd6fca", set()),  # vmovdqa %ymm2,%ymm1
        ("0fa2", set(range(16))),  # cpuid; to be safe, all
    ],
)
def test_registers_that_an_instruction_writes(code, writes):
    found = decode(code).writes

    assert {n for n in range(16) if found >> n & 1} == writes


# mov %rsp,%rcx; and $-32,%rsp; sub $96,%rsp; nop
ALIGN = "4889e1 4883e4e0 4883ec60 90"


def test_hand_made_code_keeps_the_stack_pointer_in_a_register_while_it_aligns():
    rows, stats = rows_of(ALIGN + "4889cc c3")

    assert rows[3] == "CFA = rsp+8; rbp same; return at CFA-8"
    assert rows[7] == rows[11] == rows[12] == "CFA = rcx+8; rbp same; return at CFA-8"
    assert rows[15] == rows[3]
    assert (stats.functions, stats.wrong) == (1, 0)


def test_a_copy_of_the_stack_pointer_that_was_overwritten_is_not_used():
    rows, _ = rows_of(ALIGN + "31c9 90 4889cc c3")

    assert rows[11].startswith("CFA = rcx+8")
    assert {rows[at] for at in (14, 15, 18)} == {"no information covers this address"}


def test_a_copy_that_only_one_way_has_is_not_used():
    """test %edi,%edi; je over the next; mov %rdi,%rcx; nop"""
    rows, _ = rows_of(ALIGN + "85ff 7403 4889f9 90 4889cc c3")

    assert rows[12].startswith("CFA = rcx+8")
    assert rows[16].startswith("CFA = rcx+8")
    assert rows[19] == "no information covers this address"


@pytest.mark.parametrize(("before", "after", "known"), [("90", "90", True), ("55", "5d", False)])
def test_another_start_of_a_function_that_leaves_the_stack_alone(before, after, known):
    """A block that nothing leads to, on a boundary, which jumps into the function before it."""
    first = before + "eb1d" + "90" * 13  # jmp to the end
    second = "89f8" + "eb0c" + "90" * 12
    rows, _ = rows_of(first + second + after + "c3")

    assert (rows[16] == "CFA = rsp+8; rbp same; return at CFA-8") is known
    assert rows[0] == "CFA = rsp+8; rbp same; return at CFA-8"


def test_function_behind_one_that_jumps_through_a_table_is_no_block_of_it():
    """Without symbols nothing else tells dav1d's hand-made functions apart than their alignment."""
    table = "53 488d0500100000 48630c88 4801c1 ffe1 5bc3" + "90" * 13
    rows, stats = rows_of((table + "89f8c3").replace(" ", ""))

    assert stats.wrong == 0
    assert [row.split(";")[0] for row in rows[17:19]] == ["CFA = rsp+16", "CFA = rsp+8"]
    assert rows[32] == "CFA = rsp+8; rbp same; return at CFA-8"


@pytest.mark.parametrize(
    ("add", "known"),
    [("4801c1", True), ("4803c8", True), ("4801c8", False), ("4889c1", False)],
    ids=["add rcx,rax", "add rcx,[rax]", "add rax,rcx", "mov rcx,rax"],
)
def test_jump_to_a_sum_is_by_a_table(add, known):
    """`movzwl (%rax,%rcx,2),%ecx; add %rax,%rcx; jmp *%rcx`, then two blocks, in dav1d."""
    rows, stats = rows_of("488d0500100000" + "0fb70c48" + add + "ffe1" + "90" + "89f8c3" * 2)

    assert stats.wrong == 0
    assert (rows[20] == "CFA = rsp+8; rbp same; return at CFA-8") is known


@pytest.mark.parametrize(("first", "known"), [("31c0ffc0c3", True), ("5331c05bc3", False)])
def test_function_may_go_on_in_one_before(first, known):
    """It has no return of its own; a part of another function finds another stack there."""
    target = 2 if known else 1
    rows, stats = rows_of(first + "90" * 11 + "31c9eb" + f"{target - 20 & 0xFF:02x}")

    assert stats.wrong == (0 if known else 1)
    assert (rows[16] == "CFA = rsp+8; rbp same; return at CFA-8") is known


def test_contradiction_gets_no_rows():
    """A branch over a push: the return finds two states of the stack."""
    rows, stats = rows_of("85c0 7401 53 c3".replace(" ", ""))

    assert stats.wrong == 1
    assert not any("CFA" in row for row in rows)


def test_a_frame_whose_return_address_was_pushed_again():
    """V8's CallApiCallback: pop rax; push rbx; push rdi; push rax; push rbp; mov rbp, rsp; …"""
    frame = "CFA = rbp+16; rbp at CFA-16; return at CFA-8"
    code = "58 53 57 50 55 4889e5 6a06 4883e4f0 ffd2 c9 59 4801dc 51 c3"
    rows, stats = rows_of(code.replace(" ", ""))

    assert stats.wrong == 0
    assert rows[0] == "CFA = rsp+8; rbp same; return at CFA-8"
    assert rows[8] == rows[14] == rows[16] == frame
    # Another register than the one with the return address is below the frame pointer.
    assert frame not in rows_of(code.replace(" ", "").replace("5350", "5357", 1))[0][:8]
    other, _ = rows_of(code.replace("57 50", "50 57").replace(" ", ""))
    assert frame not in other


def test_what_nothing_leads_to_in_a_function_with_a_frame_has_it_too():
    """push rbp; mov rbp, rsp; jmp 1f; what only a table of handlers leads to; 1: leave; ret."""
    rows, _ = rows_of("55 4889e5 eb04 31c0 31d2 c9 c3".replace(" ", ""))
    without, _ = rows_of("50 eb04 31c0 31d2 59 c3".replace(" ", ""))

    assert "frame pointer" in rows[6]
    assert "frame pointer" not in without[3]


def test_what_follows_a_call_that_does_not_return_keeps_its_own_state():
    """push; test; je 1f; pop; ret; 1: push; call; …; then another function's push at 0x1010."""
    code = "53 85c0 7402 5b c3 50 e800010000 90 90 90 53 5b c3".replace(" ", "")
    rows, stats = rows_of(code)

    assert stats.wrong == 0
    assert rows[0x10] == "CFA = rsp+8; rbp same; return at CFA-8"


def test_no_rows_for_other_machines():
    rows, stats = rows_of("5589c3", machine=EM_AARCH64)

    assert stats.functions == 0
    assert not any("CFA" in row for row in rows)


def test_changed_code_is_another_cache_entry(tmp_path):
    """Two files with the same information but other code do not share rows."""
    flags = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables")
    elf = build(tmp_path, "gcc", "-O2", *flags)
    data = bytearray(elf.source.read_at(0, elf.source.size))
    burn = elf.offset_of(elf.find_symbols("burn")["burn"].value)
    data[burn] ^= 1
    changed = ElfFile(BytesSource(bytes(data)))
    table = extract_both(elf)[0]
    key = b"the same"

    assert code_key(elf, key, table) == code_key(elf, key, table)
    assert code_key(elf, key, table) != code_key(changed, key, table)


def test_cache_gives_rows_of_code_too(tmp_path):
    elf = build(tmp_path, "gcc", "-O2", "-fno-asynchronous-unwind-tables")
    cache = RowCache(tmp_path / "cache")

    first = load_rows(elf.source, elf, cache)
    entries = list((tmp_path / "cache").glob("*.rows"))
    again = load_rows(elf.source, elf, cache)

    assert first == again == extract(elf)
    assert len(entries) == 2
    assert cache.get(rows_key(elf.source, elf)) != first


def test_much_code_with_frame_pointers_is_told_by_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(code_module, "FRAMES_BYTES", 1024)
    flags = ("-O2", "-fno-asynchronous-unwind-tables")
    framed = build(tmp_path, "gcc", *flags, "-fno-omit-frame-pointer")
    burn = framed.find_symbols("recurse")["recurse"].value
    assert extract(framed).find(burn) in (abi.Row.FRAME_CODE, abi.Row.NONE)

    bare = build(tmp_path, "gcc", *flags, "-fomit-frame-pointer")
    burn = bare.find_symbols("recurse")["recurse"].value
    assert extract(bare).find(burn) == abi.Row.NONE


def test_symbols_are_those_of_functions_that_begin_in_the_ranges(tmp_path):
    source, out = tmp_path / "parts.c", tmp_path / "parts.o"
    source.write_text(
        "int data = 1; int f(void) { return 1; } int g(void) { return 2; }\n"
        'int part(void) __asm__("g.cold"); int part(void) { return 3; }\n'
    )
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", source, "-o", out], check=True)
    elf = ElfFile(BytesSource(out.read_bytes()))
    f, g = (elf.find_symbols(name)[name].value for name in ("f", "g"))

    def values(*ranges):
        entries = code_module.read_symbols(elf, ranges)
        return {value for *_, value, _ in struct.iter_unpack("<IBBHQQ", entries)}

    assert values((f, f + 1)) == {f}
    assert values((f - 8, f), (f + 1, g + 12)) == {g}
    assert values() == set()


def test_code_that_a_segment_claims_beyond_the_end_of_its_file_is_not_looked_at():
    elf = make_elf(eh_frame((0x1000, 64, b"")), has_sections=False, code_bytes=20 << 20)
    described = extract_both(elf)[0]

    (found,) = code_module.find_undescribed(elf, described)

    assert found.gaps[-1][1] == elf.source.size  # its offset is its address
