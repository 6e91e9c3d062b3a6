# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import hashlib

import pytest

from otelagent.errors import BadElf
from otelagent.formats.elf import BytesSource
from otelagent.unwind.file_id import file_id, kernel_file_id


class CutSource(BytesSource):
    @property
    def size(self):
        return 10_000


@pytest.mark.parametrize(
    ("data", "hashed"),
    [
        (b"", b"" + bytes(8)),
        (b"a", b"aa" + (1).to_bytes(8, "big")),
        (b"x" * 4096, b"x" * 8192 + (4096).to_bytes(8, "big")),
        (
            b"h" * 4096 + b"m" * 100 + b"t" * 4096,
            b"h" * 4096 + b"t" * 4096 + (8292).to_bytes(8, "big"),
        ),
    ],
)
def test_head_tail_and_length_are_hashed(data, hashed):
    assert file_id(BytesSource(data)) == hashlib.sha256(hashed).digest()[:16]


def test_known_values():
    """Fixed for ever: backends keep names by them."""
    assert file_id(BytesSource(b"")).hex() == "af5570f5a1810b7af78caf4bc70a660f"
    assert file_id(BytesSource(bytes(range(256)) * 40)).hex() == "43a0e5b6c86a422f0e8c654be08b31f5"


def test_the_middle_does_not_count_but_the_length_does():
    first = b"h" * 4096 + b"1" * 9 + b"t" * 4096
    second = b"h" * 4096 + b"2" * 9 + b"t" * 4096
    longer = b"h" * 4096 + b"2" * 10 + b"t" * 4096

    assert file_id(BytesSource(first)) == file_id(BytesSource(second))
    assert file_id(BytesSource(second)) != file_id(BytesSource(longer))


def test_a_file_that_is_cut_meanwhile_is_refused():
    with pytest.raises(BadElf, match="cut"):
        file_id(CutSource(b"a" * 5000))


def test_kernel_id_is_fnv1a_128():
    """Vectors of the FNV draft (draft-eastlake-fnv)."""
    assert kernel_file_id("").hex() == "6c62272e07bb014262b821756295c58d"
    assert kernel_file_id("a").hex() == "d228cb696f1a8caf78912b704e4a8964"
    assert kernel_file_id("foobar").hex() == "343e1662793c64bf6f0d3597ba446f18"
