# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from otelagent.formats.proc_maps import MappedRange, keep_executable, parse_executable

TEXT = b"""\
55d0c0a00000-55d0c0a25000 r--p 00000000 fe:00 1234 /usr/bin/a
55d0c0a25000-55d0c0b00000 r-xp 00025000 fe:00 1234 /usr/bin/a b\\012c (deleted)
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7ffd1cdfe000-7ffd1ce00000 r-xp 00000000 00:00 0                          [vdso]
"""


def test_only_executable_mappings_come_with_offset_and_unescaped_path():
    expected = [
        MappedRange(0x55D0C0A25000, 0x55D0C0B00000, 0x25000, 0xFE, 0, 1234, "/usr/bin/a b\nc"),
        MappedRange(0x7F0000000000, 0x7F0000001000, 0, 0, 0, 0, ""),
        MappedRange(0x7FFD1CDFE000, 0x7FFD1CE00000, 0, 0, 0, 0, "[vdso]"),
    ]

    assert expected == list(parse_executable(TEXT))


def test_backslash_in_a_file_s_name_need_not_begin_an_escape():
    """Of all bytes of a name the kernel writes only the new line as \\012."""
    line = rb"1000-2000 r-xp 00000000 08:01 77 /tmp/a\800\777\012b"

    [mapped] = parse_executable(line)

    assert mapped.path == "/tmp/a\\800\\777\nb"


def test_what_is_kept_says_the_same():
    shared = b"7f0000002000-7f0000003000 r-xs 00000000 00:01 5 /memfd:a\n"
    kept = keep_executable(shared + TEXT)

    assert kept.count(b"\n") == 4
    assert kept.endswith(shared)
    kept = keep_executable(TEXT.rstrip(b"\n"))
    assert list(parse_executable(kept)) == list(parse_executable(TEXT))
    own = Path("/proc/self/maps").read_bytes()
    assert list(parse_executable(keep_executable(own))) == list(parse_executable(own))


def test_own_maps_hold_a_libc_and_the_vdso():
    ranges = list(parse_executable(Path("/proc/self/maps").read_bytes()))

    assert any("libc" in mapped.path for mapped in ranges)
    assert any(mapped.path == "[vdso]" for mapped in ranges)
    assert all(mapped.start < mapped.end for mapped in ranges)
