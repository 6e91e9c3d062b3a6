# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import random
from pathlib import Path

import pytest

from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.host.files import open_file
from otelagent.model import FrameType
from otelagent.symbolize.native import MAX_CACHED, NativeSymbols
from otelagent.symbolize.result import BAD_FILE, NO_SYMBOLS
from tests.symbolize.builds import (
    CXX_SOURCE,
    RUST_SOURCE,
    compile_c,
    need,
    nm_ranges,
    run,
    sample_addresses,
)


def open_symbols(path, **options) -> NativeSymbols:
    return NativeSymbols.open(open_file(str(path)), str(path), **options)


def raw_name(symbols: NativeSymbols, addr: int) -> str:
    """The physical function's name as in the symbol table; empty if unresolved."""
    named = symbols.name(addr, is_return_address=False)
    if not named.lines:
        return ""
    function = named.lines[-1].function
    return function.system_name or function.name


def check_against_nm(symbols: NativeSymbols, ranges) -> None:
    expected = sample_addresses(ranges)
    got = {addr: raw_name(symbols, addr) for addr in expected}
    wrong = {hex(a): (n, expected[a]) for a, n in got.items() if n and n not in expected[a]}
    assert wrong == {}
    assert sum(1 for name in got.values() if name) >= 0.995 * len(got)


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [("gcc", ["-O2"]), ("gcc", ["-O0", "-static"]), ("clang", ["-O2", "-fuse-ld=bfd"])],
)
def test_every_address_in_a_symbol_of_c_is_named_and_none_wrongly(tmp_path, compiler, flags):
    path = compile_c(tmp_path / "program", *flags, compiler=compiler)

    check_against_nm(open_symbols(path), nm_ranges(path))


def test_every_address_in_a_symbol_of_cxx_is_named_and_none_wrongly(tmp_path):
    path = compile_c(tmp_path / "program", "-O1", compiler="g++", source=CXX_SOURCE)

    check_against_nm(open_symbols(path), nm_ranges(path))


def test_shared_libraries_of_this_machine_are_named_by_their_dynamic_symbols():
    libc = next(Path("/usr/lib").glob("*-linux-gnu/libc.so.6"), None)
    if libc is None:
        pytest.skip("needs glibc in /usr/lib")

    check_against_nm(
        NativeSymbols.open(open_file(str(libc)), "/none/libc", debug_dirs=()),
        nm_ranges(libc, "-D"),
    )


def test_names_that_are_kept_are_bounded(tmp_path):
    """A server's long tail of addresses would fill what has no bound for days."""
    path = compile_c(tmp_path / "program", "-O0")
    symbols = open_symbols(path)
    starts = sorted(sample_addresses(nm_ranges(path)))
    addrs = [addr + by for addr in starts for by in range(64)]
    first = {addr: symbols.name(addr, is_return_address=False) for addr in addrs}

    kept = {id(symbols.name(addr, is_return_address=False)) for addr in addrs} & {
        *map(id, first.values())
    }

    assert len(addrs) > 4 * MAX_CACHED
    assert len(kept) <= MAX_CACHED
    assert all(
        symbols.name(addr, is_return_address=False) == named for addr, named in first.items()
    )


def test_function_without_size_ends_at_the_next_symbol(tmp_path):
    path = compile_c(tmp_path / "program", "-O2")
    symbols = open_symbols(path)
    table = {}
    for line in run(need("nm"), path).splitlines():
        parts = line.split()
        if len(parts) == 3:
            table[parts[2]] = int(parts[0], 16)

    assert raw_name(symbols, table["asm_bare"]) == "asm_bare"
    assert raw_name(symbols, table["local_bare"] - 1) == "asm_bare"
    assert raw_name(symbols, table["local_bare"]) == "local_bare"
    assert raw_name(symbols, table["asm_sized"] + 2) == "asm_sized"


def test_return_address_is_looked_up_in_the_call_before_it(tmp_path):
    path = compile_c(tmp_path / "program", "-O2")
    start, size, _ = next(r for r in nm_ranges(path) if r[2] == "outer")
    symbols = open_symbols(path)

    named = symbols.name(start + size, is_return_address=True)

    assert named.lines[-1].function.name in {"outer", "alias"}
    assert named.type is FrameType.NATIVE
    assert raw_name(symbols, start + size) not in {"outer", "alias"}


def test_strong_symbol_is_preferred_over_its_weak_alias(tmp_path):
    path = compile_c(tmp_path / "program", "-O2")
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")

    assert raw_name(open_symbols(path), start) == "outer"


@pytest.mark.parametrize("way", ["build-id", "debuglink"])
def test_stripped_file_is_named_by_its_debug_file(tmp_path, way):
    whole = compile_c(
        tmp_path / "program", "-O2", f"-Wl,--build-id={'sha1' if way == 'build-id' else 'none'}"
    )
    ranges = nm_ranges(whole)
    stripped, debug = tmp_path / "bin" / "stripped", tmp_path / "program.debug"
    stripped.parent.mkdir()
    run(need("objcopy"), "--only-keep-debug", whole, debug)
    run("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", whole, stripped)
    if way == "build-id":
        build_id = run(need("readelf"), "-n", whole).split("Build ID: ")[1].split()[0]
        target = tmp_path / "debug" / ".build-id" / build_id[:2] / (build_id[2:] + ".debug")
        target.parent.mkdir(parents=True)
        debug.rename(target)
    else:
        debug.rename(stripped.parent / debug.name)

    check_against_nm(open_symbols(stripped, debug_dirs=[tmp_path / "debug"]), ranges)


def test_debug_file_of_another_build_is_not_used(tmp_path):
    whole = compile_c(tmp_path / "program", "-O2", "-Wl,--build-id=none")
    debug = tmp_path / "program.debug"
    run(need("objcopy"), "--only-keep-debug", whole, debug)
    run("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", whole, tmp_path / "stripped")
    debug.write_bytes(debug.read_bytes() + b"\0")
    start = next(r[0] for r in nm_ranges(whole) if r[2] == "middle")

    assert raw_name(open_symbols(tmp_path / "stripped"), start) == ""


def test_mini_debug_info_names_local_functions(tmp_path):
    whole = compile_c(tmp_path / "program", "-O2")
    mini = tmp_path / "mini"
    run(need("objcopy"), "-S", "--keep-symbol=middle", "--only-keep-debug", whole, mini)
    run("objcopy", "--keep-symbol=middle", "--keep-symbol=compare", "--strip-all", whole, mini)
    run(need("xz"), "-k", mini)
    stripped = tmp_path / "stripped"
    run("objcopy", "-S", f"--add-section=.gnu_debugdata={mini}.xz", whole, stripped)
    start = next(r[0] for r in nm_ranges(whole) if r[2] == "middle")

    assert raw_name(open_symbols(stripped), start + 3) == "middle"


def test_file_without_symbols_says_so(tmp_path):
    path = compile_c(tmp_path / "program", "-O2", "-s", "-static")

    named = open_symbols(path).name(0x401000, is_return_address=False)

    assert (named.lines, named.reason) == ((), NO_SYMBOLS)


def test_file_that_is_not_elf_is_answered_and_not_raised():
    named = NativeSymbols.open(BytesSource(b"#!/bin/sh"), "x").name(1, is_return_address=False)

    assert named.reason == BAD_FILE


def test_hostile_headers_never_raise(tmp_path):
    data = bytearray(compile_c(tmp_path / "program", "-O2").read_bytes())
    rng = random.Random(1)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 40)):
            at = rng.choice([rng.randrange(64), rng.randrange(len(broken) - 3000, len(broken))])
            broken[at] = rng.randrange(256)
        symbols = NativeSymbols.open(BytesSource(bytes(broken)), "program", debug_dirs=())
        for addr in (0, 0x1139, 1 << 63, (1 << 64) - 1):
            named = symbols.name(addr, is_return_address=True)
            assert named.lines or named.reason


def test_exported_symbol_without_size_does_not_name_the_local_function_behind_it(tmp_path):
    source = """
__asm__(".text\\n.globl bare\\nbare:\\n .cfi_startproc\\n nop\\n nop\\n ret\\n .cfi_endproc\\n");
__attribute__((noinline)) static int hidden(int x) { return x * 7 + 1; }
int shown(int x) { return hidden(x) + hidden(x + 1); }
"""
    path = compile_c(tmp_path / "lib.so", "-O1", "-shared", "-fPIC", source=source)
    hidden = next(r for r in nm_ranges(path) if r[2] == "hidden")
    run(need("objcopy"), "--strip-all", path)
    bare = next(
        int(line.split()[0], 16)
        for line in run("nm", "-D", path).splitlines()
        if line.endswith(" bare")
    )
    symbols = open_symbols(path)

    assert raw_name(symbols, bare + 2) == "bare"
    assert raw_name(symbols, hidden[0]) == ""


ARM_SOURCE = """
extern int puts(const char *);
__attribute__((noinline)) static int inner(int x) { return x * 3; }
int shown(int x) { puts("x"); return inner(x); }
__asm__(".text\\n.globl bare\\nbare:\\n nop\\n .word 5\\n nop\\n ret\\n");
"""


def test_arm_file_has_no_mapping_symbols_and_named_stubs(tmp_path):
    """`$x` and `$d` mark code and data inside of functions: they are no names."""
    need("ld.lld")
    flags = ["--target=aarch64-linux-gnu", "-O1", "-fPIC", "-shared", "-nostdlib"]
    flags += ["-fuse-ld=lld", "-w"]
    path = compile_c(tmp_path / "arm.so", *flags, compiler="clang", source=ARM_SOURCE)
    symbols = open_symbols(path)
    ranges = {name: (start, size) for start, size, name in nm_ranges(path)}
    with open_file(str(path)) as source:
        plt = ElfFile(source).section(".plt")

    assert raw_name(symbols, ranges["inner"][0]) == "inner"
    assert raw_name(symbols, ranges["inner"][0] + ranges["inner"][1]) != "$x"
    assert [raw_name(symbols, plt.addr + at) for at in (0, 28, 32, 44)] == [
        "",
        "",
        "puts@plt",
        "puts@plt",
    ]


def test_every_address_in_a_symbol_of_rust_is_named_and_none_wrongly(tmp_path):
    (tmp_path / "r.rs").write_text(RUST_SOURCE)
    run(need("rustc"), "-O", tmp_path / "r.rs", "-o", tmp_path / "r")

    symbols = open_symbols(tmp_path / "r", lines=False)

    check_against_nm(symbols, nm_ranges(tmp_path / "r"))
