# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from otelagent.errors import MissingFeature
from otelagent.kernel.namespace import require_first


def namespace(inode):
    return SimpleNamespace(stat=lambda: SimpleNamespace(st_ino=inode))


def test_a_pid_namespace_of_our_own_is_refused_with_what_to_do():
    with pytest.raises(MissingFeature, match="pid namespace of its own") as caught:
        require_first(namespace(4026532000))

    assert "--pid=host" in caught.value.hint
    assert caught.value.exit_status == 69


def test_the_first_pid_namespace_and_a_kernel_without_any_are_fine(tmp_path):
    require_first(namespace(4026531836))
    require_first(tmp_path / "missing")
