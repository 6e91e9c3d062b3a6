# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What of a deep stack was sent beside its copy is walked, too."""

import pytest

from otelagent._native import ffi
from otelagent.abi._generated import CfaKind, Fault, Limit, RecordKind, RegKind, Row
from tests.unwind.walks import BIAS, SP, STACK, TEXT, World, rule

SECOND, THIRD = TEXT + 0x800, TEXT + 0x1000
FIRST_BYTES, SECOND_BYTES = 4096, 600_000
ROWS = {
    0x1000: rule((CfaKind.REG, SP, FIRST_BYTES), ra=(RegKind.CFA, 0, -8)),
    0x1700: rule((CfaKind.REG, SP, SECOND_BYTES), ra=(RegKind.CFA, 0, -8)),
    0x1F00: Row.STOP,
}
"""The newest frame ends behind the copy, in what is deep; its caller is larger than all that is."""
ADDR = STACK + 512
TOP = STACK + FIRST_BYTES + SECOND_BYTES - Limit.DEEP_TOP_BYTES
WHOLE = [0x1000, SECOND - BIAS, THIRD - BIAS]


def deep(addr=ADDR, top=TOP, kind=RecordKind.DEEP) -> bytes:
    """Make a `struct oa_deep` with both return addresses, if they lie in it."""
    record = ffi.new("struct oa_deep *", {"kind": kind, "addr": addr, "top_addr": top})
    for place, value in (
        (STACK + FIRST_BYTES - 8, SECOND),
        (STACK + FIRST_BYTES + SECOND_BYTES - 8, THIRD),
    ):
        for begin, part in ((addr, record.memory), (top, record.top)):
            if 0 <= place - begin <= len(part) - 8:
                ffi.memmove(part + (place - begin), value.to_bytes(8, "little"), 8)
    return bytes(ffi.buffer(record))


def walk(behind: bytes):
    return World(rows=ROWS, stack=[0] * 64, behind=behind).walk()


def test_a_frame_larger_than_what_is_copied_is_stepped_over():
    assert walk(b"").fault == Fault.READ_STACK

    walked = walk(deep())

    assert (walked.fault, walked.addrs) == (Fault.NONE, WHOLE)


@pytest.mark.parametrize(
    ("behind", "frames"),
    [
        (deep(top=TOP - Limit.DEEP_TOP_BYTES), 2),  # the top is not where the first frame is
        (deep(addr=STACK + FIRST_BYTES), 1),  # what follows begins behind the return address
        (deep(addr=(1 << 64) - 8, top=(1 << 64) - 8), 1),
        (deep()[:-1], 1),
        (deep()[:40], 1),
        (deep(kind=RecordKind.REPORT), 1),
    ],
)
def test_what_does_not_have_the_frame_or_is_no_such_record_ends_the_walk(behind, frames):
    walked = walk(behind)

    assert walked.addrs == WHOLE[:frames]
    assert walked.fault == Fault.READ_STACK


def test_what_was_deep_of_one_stack_is_forgotten_with_it():
    world = World(rows=ROWS, stack=[0] * 64, behind=deep())
    assert world.walk().fault == Fault.NONE
    world.behind = b""
    assert world.walk().fault == Fault.READ_STACK
