# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import errno

import pytest

from otelagent.bpf.links import open_error, parse_cpu_list
from otelagent.errors import AttachFailed, MissingFeature, NotPermitted


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0\n", [0]), ("0-3\n", [0, 1, 2, 3]), ("0-1,4,6-7", [0, 1, 4, 6, 7]), ("\n", [])],
)
def test_cpu_lists_are_expanded(text, cpus):
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EACCES, NotPermitted, "perf_event_paranoid"),
        (errno.ENOENT, MissingFeature, "cpu-clock"),
        (errno.EMFILE, AttachFailed, "ulimit"),
    ],
)
def test_each_refusal_of_the_kernel_has_its_way_out(number, kind, words):
    error = open_error(-number, "cycles")

    assert type(error) is kind
    assert words in error.hint
