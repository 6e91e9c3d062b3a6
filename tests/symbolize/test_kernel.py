# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from otelagent import metrics
from otelagent.model import FrameType
from otelagent.symbolize.kernel import MAX_REMOVED, KernelSymbols
from otelagent.symbolize.result import KERNEL_HIDDEN, KERNEL_UNKNOWN, OUTSIDE

KALLSYMS = """0000000000000000 A __per_cpu_start
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000000 t early_local
ffffffff81000000 T startup
ffffffff81000100 W weak_one
ffffffff81000100 t local_alias
ffffffff81000200 t second
ffffffff81000300 T _etext
ffffffff81000400 D some_data
ffffffffc0000000 t nf_hook\t[nf_tables]
ffffffffc0000040 t nf_last\t[nf_tables]
ffffffffc0010000 t bpf_prog_1234_count\t[bpf]
"""
MODULES = "nf_tables 4096 1 - Live 0xffffffffc0000000\nbroken line\n"


def kernel(tmp_path, text=KALLSYMS) -> KernelSymbols:
    (tmp_path / "kallsyms").write_text(text)
    (tmp_path / "modules").write_text(MODULES)
    return KernelSymbols(tmp_path)


def name(symbols, addr, **flags):
    named = symbols.name(addr, **flags)
    assert named.type is FrameType.KERNEL
    return (named.lines[0].function.name if named.lines else named.reason), named.module


def test_functions_are_found_with_global_before_weak_before_local(tmp_path):
    symbols = kernel(tmp_path)

    assert name(symbols, 0xFFFFFFFF81000000) == ("startup", "[kernel.kallsyms]")
    assert name(symbols, 0xFFFFFFFF810001FF) == ("weak_one", "[kernel.kallsyms]")
    assert name(symbols, 0xFFFFFFFF81000200, is_return_address=True)[0] == "weak_one"
    assert name(symbols, 0xFFFFFFFF81000200)[0] == "second"


def test_end_of_text_and_data_name_nothing(tmp_path):
    symbols = kernel(tmp_path)

    assert name(symbols, 0xFFFFFFFF81000300) == (OUTSIDE, "[kernel.kallsyms]")
    assert name(symbols, 0xFFFFFFFF81000400)[0] == OUTSIDE
    assert name(symbols, 0x1000)[0] == OUTSIDE


def test_last_function_of_a_module_ends_with_the_module(tmp_path):
    symbols = kernel(tmp_path)

    assert name(symbols, 0xFFFFFFFFC0000FFF) == ("nf_last", "[nf_tables]")
    assert name(symbols, 0xFFFFFFFFC0001000) == (OUTSIDE, "[kernel.kallsyms]")


def test_bpf_programs_follow_events(tmp_path):
    symbols = kernel(tmp_path)
    symbols.add(0xFFFFFFFFC0020000, 0x80, "bpf_prog_new")

    assert name(symbols, 0xFFFFFFFFC002007F) == ("bpf_prog_new", "[bpf]")
    assert name(symbols, 0xFFFFFFFFC0010004) == ("bpf_prog_1234_count", "[bpf]")

    symbols.remove(0xFFFFFFFFC0010000, 0x40)
    symbols.add(0xFFFFFFFFC0020040, 0x80, "bpf_prog_newer")

    assert name(symbols, 0xFFFFFFFFC0010004)[0] == OUTSIDE
    assert name(symbols, 0xFFFFFFFFC0020040)[0] == "bpf_prog_newer"
    assert name(symbols, 0xFFFFFFFFC0020000)[0] != "bpf_prog_new"


def test_hidden_addresses_are_told_from_unknown_ones(tmp_path):
    hidden = "".join(f"{0:016x} T name{i}\n" for i in range(9))

    assert name(kernel(tmp_path, hidden), 0xFFFFFFFF81000000)[0] == KERNEL_HIDDEN
    assert name(KernelSymbols(tmp_path / "none"), 0xFFFFFFFF81000000)[0] == KERNEL_UNKNOWN


def test_programs_that_come_and_go_for_ever_are_forgotten_not_misnamed(tmp_path):
    symbols = kernel(tmp_path)
    for at in range(MAX_REMOVED + 9):
        symbols.remove(0xFFFFFFFFD0000000 + at * 0x100, 0x40)

    assert 0 < len(symbols._removed) <= MAX_REMOVED
    assert name(symbols, 0xFFFFFFFFC0010004)[0] == "bpf_prog_1234_count"


def test_of_what_came_after_kallsyms_was_read_no_end_is_remembered(tmp_path):
    """Each took 0.1 KB for hours, and 4,096 of them another look at all symbols."""
    symbols = kernel(tmp_path)
    assert name(symbols, 0xFFFFFFFFC0010004)[0] == "bpf_prog_1234_count"
    for at in range(9):
        symbols.add(0xFFFFFFFFD0000000 + at * 0x100, 0x40, "bpf_prog_new")
        symbols.remove(0xFFFFFFFFD0000000 + at * 0x100, 0x40)
    assert symbols._removed == {}

    symbols.remove(0xFFFFFFFFC0010000, 0x40)
    assert name(symbols, 0xFFFFFFFFC0010004)[0] == OUTSIDE


def test_programs_beyond_what_is_kept_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("otelagent.symbolize.kernel.MAX_ADDED", 2)
    symbols, dropped = kernel(tmp_path), metrics.kernel_dropped.total
    for at in range(5):
        symbols.add(0xFFFFFFFFD0000000 + at * 0x100, 0x40, f"bpf_prog_{at}")

    assert metrics.kernel_dropped.total == dropped + 3
    assert name(symbols, 0xFFFFFFFFD0000104)[0] == "bpf_prog_1"


def test_symbols_are_read_again_only_where_there_is_another_module(tmp_path, monkeypatch):
    monkeypatch.setattr("otelagent.symbolize.kernel.REREAD_SECONDS", 0.0)
    symbols = kernel(tmp_path)
    late = 0xFFFFFFFFC0300010
    assert name(symbols, late)[0] == OUTSIDE
    (tmp_path / "kallsyms").write_text(KALLSYMS + "ffffffffc0300000 t late_one\t[late]\n")
    assert name(symbols, late)[0] == OUTSIDE

    (tmp_path / "modules").write_text(MODULES + "late 4096 0 - Live 0xffffffffc0300000\n")
    assert name(symbols, late) == ("late_one", "[late]")
