# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import lzma
import shutil
import subprocess

import pytest

from otelagent.abi import _generated as abi
from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file
from otelagent.unwind import separate
from otelagent.unwind.extract import extract
from otelagent.unwind.load import rows_key

SOURCE = "int g(int *); int f(int n) { int a[40] = {n}; return g(a); } int g(int *a) { return *a; }"


def tool(*command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


@pytest.fixture
def built(tmp_path):
    """A library without `.eh_frame`, its debug file, and the address of `f`."""
    if not all(map(shutil.which, ("cc", "objcopy", "strip"))):
        pytest.skip("no compiler")
    (tmp_path / "a.c").write_text(SOURCE)
    library, debug = tmp_path / "a.so", tmp_path / "a.debug"
    options = "-O1 -g -fPIC -shared -nostdlib -Wl,--build-id -fno-asynchronous-unwind-tables"
    tool("cc", *options.split(), "-fno-inline", "-o", library, tmp_path / "a.c")
    with open_file(str(library)) as source:
        addr = ElfFile(source).find_symbols("f")["f"].value
    tool("objcopy", "--only-keep-debug", library, debug)
    tool("strip", library)
    return library, debug, addr


def table_of(path):
    with open_file(str(path)) as source:
        return extract(ElfFile(source))


def test_debug_file_of_the_build_id_directory_is_used(built, tmp_path, monkeypatch):
    library, debug, addr = built
    monkeypatch.setattr(separate, "DEBUG_DIRECTORY", tmp_path / "debug")
    assert table_of(library).find(addr) == abi.Row.NONE
    with open_file(str(library)) as source:
        elf = ElfFile(source)
        build_id, key = elf.build_id, rows_key(source, elf)

    place = tmp_path / "debug" / build_id[:2]
    place.mkdir(parents=True)
    shutil.copy(debug, place / f"{build_id[2:]}.debug")

    assert not table_of(library).find(addr) & abi.Row.COMMAND
    assert ".debug_frame of separate debug file: 2 functions" in table_of(library).sources
    with open_file(str(library)) as source:
        assert rows_key(source, ElfFile(source)) != key


def test_debug_file_of_another_build_is_not_used(built, tmp_path, monkeypatch):
    library, debug, addr = built
    monkeypatch.setattr(separate, "DEBUG_DIRECTORY", tmp_path / "debug")
    with open_file(str(library)) as source:
        build_id = ElfFile(source).build_id
    place = tmp_path / "debug" / build_id[:2]
    place.mkdir(parents=True)
    tool("objcopy", "--remove-section=.note.gnu.build-id", debug, place / f"{build_id[2:]}.debug")

    assert table_of(library).find(addr) == abi.Row.NONE


def test_debug_data_inside_of_the_file_is_used(built, tmp_path):
    library, debug, addr = built
    (tmp_path / "packed").write_bytes(lzma.compress(debug.read_bytes()))
    tool("objcopy", "--add-section", f".gnu_debugdata={tmp_path / 'packed'}", library)

    assert not table_of(library).find(addr) & abi.Row.COMMAND


def test_damaged_debug_data_is_named(built, tmp_path):
    library, _, addr = built
    (tmp_path / "packed").write_bytes(b"not xz")
    tool("objcopy", "--add-section", f".gnu_debugdata={tmp_path / 'packed'}", library)
    table = table_of(library)

    assert table.find(addr) == abi.Row.NONE
    assert ".gnu_debugdata cannot be unpacked" in table.sources
