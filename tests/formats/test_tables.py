# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from otelagent.errors import FormatError
from otelagent.formats.tables import pick


def test_rows_are_counted_from_zero_and_not_from_the_end():
    assert [pick("ab", 0), pick("ab", 1)] == ["a", "b"]
    for index in (-1, 2, 1 << 63):
        with pytest.raises(FormatError, match="not in a table of 2"):
            pick("ab", index)
