# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import random
import subprocess
from pathlib import Path

from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.gnu_hash import find_export, hash_name, may_export


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


def test_exports_are_what_the_symbol_table_says():
    elf = libc()
    names = ["printf", "malloc", "pthread_create", "makecontext", "_no_such_name"]

    expected = {name: found for name in names if (found := elf.find_symbols(name).get(name))}
    assert len(expected) == 4
    found = {name: find_export(elf, name) for name in names}
    assert found == {name: expected.get(name) for name in names}


def test_a_damaged_table_gives_the_symbol_or_none():
    """Neither hangs nor raises, whatever the bytes of header, buckets and chains are."""
    data = bytearray(libc().source.read_at(0, 1 << 30))
    elf = ElfFile(BytesSource(bytes(data)))
    start, right = elf.offset_of(elf.dynamic[0x6FFFFEF5]), find_export(elf, "makecontext")
    draw = random.Random(3)
    seen = set()
    for _ in range(100):
        damaged = data[:]
        for _ in range(8):
            damaged[start + draw.randrange(draw.choice([16, 4096]))] = draw.randrange(256)
        cut = draw.choice([len(data), len(data), start + draw.randrange(4096)])
        seen.add(find_export(ElfFile(BytesSource(bytes(damaged[:cut]))), "makecontext"))

    assert seen == {right, None}
