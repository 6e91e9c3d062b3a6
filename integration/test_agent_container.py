# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""An agent in a container with this machine's pids, and a program in one with its own."""

import signal
import subprocess
from pathlib import Path

import pytest

from integration.programs import copy_of
from integration.runs import OTELAGENT, wait_until
from integration.test_agent import names_of
from tests.export.receivers import HttpReceiver, resources_of

pytestmark = pytest.mark.needs("tool:cc", "tool:unshare")
OF_THE_AGENT = ("unshare", "--mount", "--uts", "--ipc", "--cgroup")
OF_THE_PROGRAM = ("unshare", "--mount", "--pid", "--fork")
# Its file is in a root that nobody else sees.
HIDDEN = 'mount -t tmpfs tmpfs "$0" && cp "$1" "$0/hidden" && exec "$0/hidden" 60 5'


@pytest.fixture
def contained(tmp_path):
    """A program that is pid 1 of its container; its number on this machine."""
    program = copy_of("recurse", tmp_path)
    place = tmp_path / "root"
    place.mkdir()
    command = (*OF_THE_PROGRAM, "sh", "-c", HIDDEN, place, program)
    with subprocess.Popen([*map(str, command)]) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")

        def inner():
            pid = children.read_text().strip()
            if pid and Path(f"/proc/{pid}/comm").read_text() == "hidden\n":
                return int(pid)
            return 0

        wait_until(inner, "the program in its container")
        pid = inner()
        yield pid
        subprocess.run(["kill", "-9", str(pid)], check=True)
        outer.kill()


def test_a_program_in_a_container_has_both_of_its_pids(contained):
    with HttpReceiver() as receiver:
        options = (
            "-p",
            contained,
            f"-collection-agent={receiver.url}",
            "--reporter-interval=300ms",
        )
        command = (*OF_THE_AGENT, *OTELAGENT, "agent", *options, "--samples-per-second=99")
        agent = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(receiver.requests) >= 2, "a second request")
        agent.send_signal(signal.SIGTERM)
        said = agent.communicate()[1]

    assert (agent.returncode, receiver.faults) == (0, []), said
    assert {"main", "descend", "leaf"} <= set.union(*map(names_of, receiver.requests))
    found = [each for request in receiver.requests for each in resources_of(request)]
    assert {each["process.pid"] for each in found} == {contained}
    assert {each["process.vpid"] for each in found} == {"1"}
