# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How native stacks are compared: what counts as equal, what is left out and why."""

import pytest
from native_stacks import Described, NativeTally, cut

OWN = [(0x100, "leaf"), (0x1FF, "middle"), (0x300, "made"), (0x400, "main")]
TOLD = [(0x100, ""), (0x200, ""), (0x300, ""), (0x400, "")]
"""Of a caller the return address, one behind ours."""


class Covered:
    """Call frame information of all but some addresses."""

    def __init__(self, *without):
        self.without = without

    def covers(self, pc):
        return pc not in self.without

    def where(self, pc):
        return "made at run time"

    def follows_call(self, pc):
        return pc == 0x401


def tally(own, fault, told, covered=None):
    found = NativeTally()
    found.add(own, fault, told, covered or Covered())
    return found


def test_a_return_address_is_that_of_its_call():
    found = tally(OWN, "", TOLD)

    assert (found.agreed, found.count, dict(found.unexplained)) == (4, 4, {})


@pytest.mark.parametrize(
    ("own", "fault", "told", "expected"),
    [
        (OWN, "", TOLD[:3], {"they end after made": 1}),
        (OWN[:3], "", TOLD, {"they go on after made": 1}),
        (OWN[:3], "NO_ROW", TOLD, {"we end by NO_ROW after made": 1}),
        (OWN, "", [*TOLD[:3], (0x500, "f")], {"after made: 0x400 main, they 0x500 f": 1}),
        (OWN, "", [], {"they end after the top": 4}),
        ([], "", TOLD, {"they go on after the top": 4}),
    ],
)
def test_where_stacks_begin_to_differ_is_told(own, fault, told, expected):
    assert dict(tally(own, fault, told).unexplained) == expected


def test_a_frame_that_only_one_has_leaves_the_others_equal():
    found = tally(OWN, "", [TOLD[0], *TOLD[2:]])

    assert (found.agreed, found.count) == (3, 4)


def test_what_lies_behind_code_without_information_is_left_out_and_told():
    found = tally(OWN, "", TOLD[:3], Covered(0x300))
    why = "no call frame information: made at run time"

    assert (found.agreed, found.count, dict(found.unexplained)) == (2, 2, {})
    assert (dict(found.left_out), dict(found.beyond)) == ({why: 2}, {why: 1})
    assert (found.whole_agreed, found.whole_count) == (3, 4)
    assert found.calls[why] == {"ours": 1, "of_ours": 2, "of_theirs": 1}


def test_what_differs_before_such_code_is_not_explained_by_it():
    found = tally(OWN, "", [(0x100, ""), (0x250, ""), *TOLD[2:]], Covered(0x300))

    assert found.unexplained.total() == 1


def test_gos_switch_of_stacks_is_the_last_frame_that_is_compared():
    own = [(0x100, "main.work"), (0x200, "runtime.goexit.abi0"), (0x300, "main")]

    assert cut(own, [(0x100, ""), (0x201, ""), (0, "")], Covered())[:2] == (
        own[:2],
        [(0x100, ""), (0x201, "")],
    )
    assert cut(own, [(0x100, ""), (0x999, "")], Covered())[1] == [(0x100, ""), (0x999, "")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("90 90 e8 00 01 00 00", True),
        ("90 90 90 90 90 ff d0", True),
        ("90 90 90 90 41 ff d3", True),
        ("90 ff 15 00 00 01 00", True),
        ("ff 94 24 80 00 00 00", True),
        ("90 90 90 90 90 ff e0", False),
        ("90 90 e9 00 01 00 00", False),
    ],
)
def test_an_address_behind_a_call_is_told_by_the_bytes_before_it(code, expected):
    class Image:
        def read_maps(self):
            return []

        def read(self, addr, size):
            assert (addr, size) == (0x1000, 7)
            return bytes.fromhex(code)

    assert Described(Image()).follows_call(0x1007) is expected
