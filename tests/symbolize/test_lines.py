# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lines, inlined functions and PLT stubs, held against LLVM and binutils."""

import os
import re
import signal
import subprocess
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from otelagent.formats.elf import SHF_COMPRESSED, ElfFile
from otelagent.host.files import open_file
from otelagent.symbolize import symcache
from otelagent.symbolize.native import NativeSymbols
from otelagent.symbolize.result import NO_SYMBOLS
from otelagent.symbolize.symcache import DWZ, NO_DEBUG_INFO, OLD_PACKED, SPLIT
from tests.symbolize.builds import (
    CXX_SOURCE,
    compile_c,
    need,
    nm_ranges,
    run,
    sample_addresses,
)

pytest.importorskip("symbolic")


def open_symbols(path, **options) -> NativeSymbols:
    return NativeSymbols.open(open_file(str(path)), str(path), **options)


def llvm_chains(path, addresses) -> list[list[tuple[str, int]]]:
    """File name and line of each inlined frame, innermost first, as LLVM sees it."""
    text = "".join(f"{addr:#x}\n" for addr in addresses)
    out = subprocess.run(
        [need("llvm-symbolizer"), "--inlines", "--no-demangle", f"--obj={path}"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    chains = []
    for block in out.strip("\n").split("\n\n"):
        places = block.splitlines()[1::2]
        parts = [place.rsplit(":", 2) for place in places]
        chains.append([(Path(name).name, int(line)) for name, line, _ in parts])
    return chains


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_inlined_frames_are_those_of_llvm(tmp_path, compiler):
    path = compile_c(tmp_path / "program", "-O2", "-g", compiler=compiler, source=CXX_SOURCE)
    addresses = sorted(sample_addresses(nm_ranges(path)))
    symbols = open_symbols(path, cache_dir=tmp_path / "cache")

    different = []
    inlined = 0
    for addr, expected in zip(addresses, llvm_chains(path, addresses), strict=True):
        lines = symbols.name(addr, is_return_address=False).lines
        got = [(Path(one.function.file).name, one.line) for one in lines]
        inlined += len(got) > 1
        if not all(line for _, line in expected):
            continue  # the compiler gave this instruction no line: then there is only a name
        if got != expected:
            different.append((hex(addr), got, expected))

    assert inlined > 50
    assert different == []


@pytest.mark.parametrize(("compiler", "level"), [("gcc", "-O0"), ("clang", "-O2")])
def test_start_line_is_where_the_function_is_declared(tmp_path, compiler, level):
    """Of the function itself, and of those inlined into it."""
    path = compile_c(tmp_path / "program", level, "-g", compiler=compiler)
    symbols = open_symbols(path, cache_dir=tmp_path / "cache")

    found = {
        (one.function.name, one.function.start_line)
        for start, size, _ in nm_ranges(path)
        for addr in range(start, start + size)
        for one in symbols.name(addr, is_return_address=False).lines
        if one.line
    }

    assert {("inner", 6), ("middle", 7), ("outer", 8), ("compare", 11), ("main", 15)} <= found
    assert len(found) == len(dict(found))


def kept_in(cache_dir) -> list[Path]:
    return list((cache_dir / "symcache").iterdir())


def test_symcache_is_kept_and_used_again(tmp_path):
    path = compile_c(tmp_path / "program", "-O2", "-g")
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")
    first = open_symbols(path, cache_dir=tmp_path).name(start, is_return_address=False)
    stamps = {entry.name: entry.stat().st_mtime_ns for entry in kept_in(tmp_path)}

    second = open_symbols(path, cache_dir=tmp_path).name(start, is_return_address=False)

    assert first == second
    assert second.lines[-1].line > 0
    assert second.lines[-1].function.start_line == 8
    assert sorted(name.partition(".")[2] for name in stamps) == ["declared", "symcache"]
    assert stamps == {entry.name: entry.stat().st_mtime_ns for entry in kept_in(tmp_path)}


def resident_kib(folder: Path) -> int:
    """Count what is resident of the files of a directory that are mapped."""
    found = re.findall(
        rf" {folder}/.*\n(?:.+\n)*?Rss: +(\d+)", Path("/proc/self/smaps").read_text()
    )
    return sum(map(int, found))


def test_symcache_at_rest_is_not_resident_and_comes_back(tmp_path):
    path = compile_c(tmp_path / "program", "-O2", "-g")
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")
    symbols = open_symbols(path, cache_dir=tmp_path)
    first = symbols.name(start, is_return_address=False)
    assert resident_kib(tmp_path / "symcache") >= 8

    symbols.rest()
    assert resident_kib(tmp_path / "symcache") == 0

    symbols._cache.clear()
    assert symbols.name(start, is_return_address=False) == first
    assert first.lines[-1].function.start_line == 8


@pytest.mark.parametrize("kind", ["symcache", "declared"])
def test_entry_that_others_may_write_or_that_is_broken_is_made_anew(tmp_path, kind):
    path = compile_c(tmp_path / "program", "-O2", "-g")
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")
    open_symbols(path, cache_dir=tmp_path).name(start, is_return_address=False)
    (entry,) = (entry for entry in kept_in(tmp_path) if entry.suffix == f".{kind}")
    spoils = (lambda: entry.write_bytes(b"SYMC broken"), lambda: entry.chmod(0o666), entry.unlink)
    for spoil in spoils:
        spoil()
        named = open_symbols(path, cache_dir=tmp_path).name(start, is_return_address=False)
        assert (named.lines[-1].line, named.lines[-1].function.start_line) == (8, 8)
        assert entry.stat().st_mode & 0o777 == 0o600


def test_a_conversion_is_given_up_when_there_is_no_more_time(tmp_path, monkeypatch):
    """The child only sleeps; it is ended, and does not stay."""
    path = compile_c(tmp_path / "program", "-O2", "-g", compiler="g++", source=CXX_SOURCE)
    pid = tmp_path / "pid"

    def sleep(*_fds):
        pid.write_text(str(os.getpid()))
        time.sleep(100)

    monkeypatch.setattr(symcache, "_write", sleep)
    symcache.hurry_when(lambda: pid.exists() and bool(pid.read_text()))
    try:
        with open_file(str(path)) as source:
            found = symcache.open_lines(ElfFile(source), tmp_path / "cache")
    finally:
        symcache.hurry_when(lambda: False)

    assert found == (None, symcache.NO_TIME)
    assert not Path("/proc", pid.read_text().strip()).exists()
    assert list((tmp_path / "cache" / "symcache").iterdir()) == []


def test_debug_information_that_ends_its_reader_costs_the_lines_only(tmp_path, monkeypatch):
    path = compile_c(tmp_path / "program", "-O2", "-g", compiler="g++", source=CXX_SOURCE)
    monkeypatch.setattr(symcache, "_write", lambda *_: os.kill(os.getpid(), signal.SIGSEGV))

    with open_file(str(path)) as source:
        found = symcache.open_lines(ElfFile(source), tmp_path / "cache")

    assert found == (None, symcache.NOT_CONVERTED)
    assert list((tmp_path / "cache" / "symcache").iterdir()) == []


def test_lines_come_from_the_separate_debug_file(tmp_path):
    path = compile_c(tmp_path / "program", "-O2", "-g", "-Wl,--build-id")
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")
    build_id = run(need("readelf"), "-n", path).split("Build ID: ")[1].split()[0]
    target = tmp_path / "debug" / ".build-id" / build_id[:2] / (build_id[2:] + ".debug")
    target.parent.mkdir(parents=True)
    run(need("objcopy"), "--only-keep-debug", path, target)
    run("objcopy", "--strip-all", path)

    named = open_symbols(path, debug_dirs=[tmp_path / "debug"]).name(start, is_return_address=False)

    assert named.lines[-1].function.name == "outer"
    assert named.lines[-1].line > 0


def test_file_without_debug_information_says_why_there_are_no_lines(tmp_path):
    path = compile_c(tmp_path / "program", "-O2")
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")

    named = open_symbols(path, debug_dirs=()).name(start, is_return_address=False)

    assert (named.lines[0].line, named.reason) == (0, NO_DEBUG_INFO)


def test_debug_information_shared_by_dwz_gives_names_and_the_reason(tmp_path):
    one = compile_c(tmp_path / "one", "-O2", "-g")
    two = compile_c(tmp_path / "two", "-O2", "-g")
    run(need("dwz"), "-m", tmp_path / "common.dwz", one, two)
    assert ".gnu_debugaltlink" in run(need("readelf"), "-SW", one)
    start = next(r[0] for r in nm_ranges(one) if r[2] == "outer")

    named = open_symbols(one).name(start, is_return_address=False)

    assert (named.lines[0].function.name, named.reason) == ("outer", DWZ)


@pytest.mark.parametrize("how", ["zlib-gabi", "zstd"])
def test_packed_debug_information_has_the_same_lines(tmp_path, how):
    path, packed = compile_c(tmp_path / "program", "-O2", "-g"), tmp_path / "packed"
    if how not in run(need("objcopy"), "--help"):
        pytest.skip(f"objcopy has no {how}")
    run("objcopy", f"--compress-debug-sections={how}", path, packed)
    assert ElfFile(open_file(str(packed))).section(".debug_info").flags & SHF_COMPRESSED
    addresses = sorted(sample_addresses(nm_ranges(path)))

    plain, other = open_symbols(path), open_symbols(packed)
    named = [plain.name(addr, is_return_address=False).lines for addr in addresses]

    assert named == [other.name(addr, is_return_address=False).lines for addr in addresses]
    assert {line.function.start_line > 0 for lines in named for line in lines if line.line} == {
        True
    }


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["-gdwarf-5", "-gsplit-dwarf"], SPLIT),
        (["-gdwarf-4", "-gsplit-dwarf"], SPLIT),
        (["-gz=zlib-gnu"], OLD_PACKED),
    ],
)
def test_debug_information_of_kinds_that_are_not_read_says_so(tmp_path, flags, reason):
    path = compile_c(tmp_path / "program", "-O2", "-g", *flags)
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")

    named = open_symbols(path, debug_dirs=()).name(start, is_return_address=False)

    assert (named.lines[0].function.name, named.reason) == ("outer", reason)


@pytest.mark.parametrize("flags", [["-no-pie"], ["-fcf-protection=full"], ["-Wl,-z,now"]])
def test_plt_stubs_are_named_as_binutils_name_them(tmp_path, flags):
    path = compile_c(tmp_path / "program", "-O2", *flags)
    text = run(need("objdump"), "-d", path)
    stubs = re.findall(r"^(\w+) <(\w+)@plt>:$", text, re.MULTILINE)
    assert len(stubs) >= 3
    symbols = open_symbols(path)

    for addr, name in stubs:
        for offset in (0, 5):
            named = symbols.name(int(addr, 16) + offset, is_return_address=False)
            assert named.lines[0].function.name == f"{name}@plt"


def test_first_plt_entry_and_other_code_have_no_stub_name(tmp_path):
    path = compile_c(tmp_path / "program", "-O2", "-no-pie", "-Wl,-z,lazy")
    with open_file(str(path)) as source:
        section = ElfFile(source).section(".plt")
    named = open_symbols(path).name(section.addr + 2, is_return_address=False)

    assert named.lines == ()


@pytest.fixture
def server(tmp_path):
    """A debuginfod server that has what lies in `served`, and counts what it is asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            file = tmp_path / "served" / self.path.split("/")[2]
            self.send_response(200 if file.exists() else 404)
            self.end_headers()
            if file.exists():
                self.wfile.write(file.read_bytes())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def stripped_with_served_symbols(tmp_path, *, is_right: bool):
    path = compile_c(tmp_path / "program", "-O2", "-static", "-Wl,--build-id")
    start = next(r[0] for r in nm_ranges(path) if r[2] == "outer")
    build_id = run(need("readelf"), "-n", path).split("Build ID: ")[1].split()[0]
    served = tmp_path / "served" / build_id
    served.parent.mkdir()
    run(need("objcopy"), "--only-keep-debug", path, served)
    if not is_right:
        run("objcopy", "--remove-section=.note.gnu.build-id", served)
    run("objcopy", "--strip-all", path)
    return path, start


def test_debuginfod_is_asked_once_when_there_is_a_url(tmp_path, server):
    url, asked = server
    path, start = stripped_with_served_symbols(tmp_path, is_right=True)
    for _ in range(2):
        symbols = open_symbols(path, debug_dirs=(), debuginfod=url, cache_dir=tmp_path / "cache")
        named = symbols.name(start, is_return_address=False)
        assert named.lines[0].function.name == "outer"

    assert len(asked) == 1


def test_debuginfod_is_not_asked_without_a_url_and_not_believed_blindly(tmp_path, server):
    url, asked = server
    path, start = stripped_with_served_symbols(tmp_path, is_right=False)

    without = open_symbols(path, debug_dirs=()).name(start, is_return_address=False)
    assert (without.reason, asked) == (NO_SYMBOLS, [])
    symbols = open_symbols(path, debug_dirs=(), debuginfod=url, cache_dir=tmp_path / "cache")
    assert symbols.name(start, is_return_address=False).reason == NO_SYMBOLS
