# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The signature in arm64's return addresses."""

import platform
import struct

import pytest

from otelagent.host.pointers import AT_HWCAP, HWCAP_PACA, pac_mask, read_pac_mask

SIGNED = struct.pack("=6Q", 33, 0x1000, AT_HWCAP, HWCAP_PACA | 1, 0, 0)
UNSIGNED = struct.pack("=4Q", AT_HWCAP, 1, 0, 0)


@pytest.mark.parametrize(
    ("stack_end", "mask"),
    [
        (0x0000_FFFF_F000_0000, 0x007F_0000_0000_0000),  # 48 bits
        (0x0001_0000_0000_0000, 0x007F_0000_0000_0000),
        (0x0000_007F_FFFF_F000, 0x007F_FF80_0000_0000),  # 39 bits
        (0x0000_03FF_FFFF_0000, 0x007F_FC00_0000_0000),  # 42 bits
    ],
)
def test_the_mask_is_what_lies_above_user_space(stack_end, mask):
    assert pac_mask("aarch64", SIGNED, stack_end) == mask


def test_nothing_is_stripped_where_nothing_is_signed():
    assert pac_mask("aarch64", UNSIGNED, 1 << 48) == 0
    assert pac_mask("aarch64", b"", 1 << 48) == 0
    assert pac_mask("x86_64", SIGNED, 1 << 48) == 0


def test_this_machine_is_asked():
    assert read_pac_mask() & 0xFFFF_FFFF == 0
    assert platform.machine() == "aarch64" or read_pac_mask() == 0
