# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from otelagent.bpf.maps import ArrayMap, HashMap, array_bytes
from otelagent.bpf.object import MapInfo

INFO = MapInfo("rows", -1, 1, 4, 12, 8, 0)


@pytest.mark.parametrize(("stride", "entries", "pages"), [(8, 1, 1), (8, 513, 2), (16, 256, 1)])
def test_an_array_takes_whole_pages(stride, entries, pages):
    assert array_bytes(stride, entries) == pages * 4096


def test_elements_are_rounded_up_to_eight_bytes():
    assert ArrayMap(INFO).stride == 16


def test_a_key_or_value_of_another_size_never_reaches_the_kernel():
    map_ = HashMap(INFO)

    for refused in (
        lambda: map_.get(b"123"),
        lambda: map_.update(b"1234", b"short"),
        lambda: map_.delete(b"12345"),
        lambda: map_.update_many(b"12345678", b"x" * 23),
        lambda: map_.delete_many(b"12345"),
    ):
        with pytest.raises(ValueError, match="rows"):
            refused()
