# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A cgroup by its directory or by its path, in the unified tree and in those of version 1."""

from pathlib import Path

import pytest

from otelagent.errors import AgentError
from otelagent.host import cgroup
from otelagent.host.cgroup import Cgroup, find_cgroup, mounts

HYBRID = """\
30 23 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:3 - cgroup cgroup rw,cpu,cpuacct
33 23 0:29 / /mnt/with\\040space rw - cgroup2 none rw
"""


def test_mounts_of_a_hybrid_host():
    assert mounts(HYBRID) == [
        (Path("/sys/fs/cgroup/unified"), True),
        (Path("/sys/fs/cgroup/cpu,cpuacct"), False),
        (Path("/mnt/with space"), True),
    ]
    assert mounts("") == []


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A host with a unified tree and one of version 1; both have the group `web`."""
    for mount in ("unified", "cpu"):
        for group in ("", "web", "web/worker"):
            (tmp_path / mount / group).mkdir(parents=True, exist_ok=True)
            (tmp_path / mount / group / "cgroup.procs").write_text("")
    (tmp_path / "cpu" / "old").mkdir()
    (tmp_path / "cpu" / "old" / "cgroup.procs").write_text("")
    lines = [
        f"1 0 0:1 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu",
        f"2 0 0:2 / {tmp_path}/unified rw - cgroup2 cgroup2 rw",
    ]
    (tmp_path / "mountinfo").write_text("\n".join(lines))
    monkeypatch.setattr(cgroup, "_MOUNTINFO", tmp_path / "mountinfo")
    return tmp_path


@pytest.mark.parametrize("name", ["web", "/web", "web/"])
def test_path_below_the_mount_is_looked_for_in_the_unified_tree_first(tree, name):
    assert find_cgroup(name) == Cgroup(tree / "unified" / "web", is_unified=True)


@pytest.mark.parametrize(("mount", "is_unified"), [("unified", True), ("cpu", False)])
def test_directory_says_itself_in_which_tree_it_is(tree, mount, is_unified):
    path = tree / mount / "web" / "worker"

    assert find_cgroup(str(path)) == Cgroup(path, is_unified)


def test_group_that_only_version_1_has(tree):
    assert find_cgroup("old") == Cgroup(tree / "cpu" / "old", is_unified=False)


def test_missing_group_says_where_cgroups_are(tree):
    with pytest.raises(AgentError, match="there is no cgroup nothing") as caught:
        find_cgroup("nothing")

    assert f"{tree}/unified" in caught.value.hint


def test_directory_that_is_no_cgroup_is_refused(tree):
    (tree / "other").mkdir()

    with pytest.raises(AgentError):
        find_cgroup(str(tree / "other"))


def test_processes_in_a_group_and_below(tree):
    """0 stands for a process of another pid namespace: nobody we could follow."""
    group = tree / "cpu" / "web"
    (group / "cgroup.procs").write_text("10\n0\n11\n")
    (group / "worker" / "cgroup.procs").write_text("12\n")
    (group / "gone").mkdir()

    assert sorted(Cgroup(group, is_unified=False).pids()) == [10, 11, 12]
    assert Cgroup(tree / "nothing", is_unified=False).pids() == []
