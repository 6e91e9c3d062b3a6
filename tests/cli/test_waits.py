# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which waits are asked for, and what is refused."""

import pytest

from otelagent.cli.waits import choose_waits
from otelagent.errors import ConfigError
from otelagent.options import OffCpu


def test_each_option_has_its_default():
    assert choose_waits(False, False, None, "") is None
    assert choose_waits(True, False, None, "") == OffCpu(1.0, 1000)
    assert choose_waits(False, True, 0.25, "2ms") == OffCpu(0.25, 2_000_000)
    assert choose_waits(True, False, None, "10us") == OffCpu(1.0, 10_000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((True, True, None, ""), "not both"),
        ((False, False, 0.5, ""), "need --off-cpu or --wall"),
        ((False, False, None, "1ms"), "need --off-cpu or --wall"),
        ((True, False, 0.0, ""), "is not 0.001 to 1"),
        ((True, False, 1.5, ""), "is not 0.001 to 1"),
        ((True, False, float("nan"), ""), "is not 0.001 to 1"),
        ((True, False, None, "soon"), "not a duration"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        choose_waits(*arguments)
