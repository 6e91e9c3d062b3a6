# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import subprocess
from pathlib import Path

from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.gnu_hash import hash_name, may_export


def libc() -> ElfFile:
    maps = Path("/proc/self/maps").read_text()
    path = next(line.split()[-1] for line in maps.splitlines() if "libc.so" in line)
    return ElfFile(BytesSource(Path(path).read_bytes()))


def test_hash_of_known_names():
    assert hash_name(b"") == 0x1505
    assert hash_name(b"printf") == 0x156B2BB8


def test_every_exported_name_is_found():
    elf = libc()
    names = ["printf", "malloc", "memcpy", "pthread_create", "fopen", "strlen", "qsort"]

    assert all(may_export(elf, name) for name in names)


def test_names_that_are_not_exported_are_nearly_all_ruled_out():
    elf = libc()

    found = sum(may_export(elf, f"_no_such_name_{number}") for number in range(1000))

    assert found < 250


def test_file_without_the_table_is_not_ruled_out(tmp_path):
    source = tmp_path / "a.c"
    source.write_text("void _start(void) {}")
    target = tmp_path / "a"
    command = ["cc", "-nostdlib", "-static", "-o", str(target), str(source)]
    subprocess.run(command, check=True)

    assert may_export(ElfFile(BytesSource(target.read_bytes())), "_PyRuntime")
