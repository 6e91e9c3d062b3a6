# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever fails in the midst of a walk, and whenever: the stack is short and says why."""

import subprocess
import sys

import pytest

from otelagent.abi._generated import Fault
from otelagent.dump.stacks import ImageUnwinder
from otelagent.host.live import LiveImage

PROGRAM = """
import os, time

class Deep:
    def __eq__(self, other):
        os.write(1, b"ready\\n")
        time.sleep(60)

def call(n):
    return call(n - 1) if n else [Deep()].index(Deep())

call(3)
"""


@pytest.fixture(scope="module")
def walker():
    """Walks the thread of a CPython that is held, native and Python frames in turn."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        image = LiveImage(process.pid)
        unwinder = ImageUnwinder(image)
        unwinder.prepare()
        with image.hold() as threads:

            def walk(**limits):
                unwinder.unwinder.limit(**limits)
                (raw,) = unwinder.walk(threads)
                return raw, dict(
                    zip(("steps", "reads", "lookups"), unwinder.unwinder.spent, strict=True)
                )

            yield walk
        process.kill()


@pytest.mark.parametrize("what", ["steps", "reads"])
def test_each_failure_ends_the_walk_with_a_fault_and_keeps_its_frames(walker, what):
    whole, spent = walker()
    assert whole.fault == Fault.NONE
    frames = list(whole.words())

    for most in range(1, spent[what]):
        raw, _ = walker(**{what: most})
        assert raw.fault != Fault.NONE, most
        # In the place of Python frames that could not be read the loop's own frame stands.
        is_native = [not word >> 48 & 0xFF for _, word in raw.words()]
        assert is_native[0]
        assert next(iter(raw.words())) == frames[0]
        assert len(is_native) <= len(frames)
    assert walker(**{what: 2 * spent[what]})[0].words() is not None


def test_budget_of_steps_is_named(walker):
    raw, spent = walker(steps=3)

    assert Fault(raw.fault) == Fault.MAX_STEPS
    assert spent["steps"] == 3


def test_maps_that_find_nothing_end_the_walk(walker):
    _, spent = walker()

    for most in range(1, spent["lookups"]):
        raw, _ = walker(lookups=most)
        assert raw is None or raw.fault in _MISSES, most


_MISSES = {Fault.NO_MAPPING, Fault.NO_ROW, Fault.BAD_RULE, Fault.PY_NOT_ATTACHED, Fault.NONE}
