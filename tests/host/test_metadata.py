# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a process is part of, from files that it may have a say in."""

import os

import pytest

from otelagent.host.metadata import (
    cgroup_attributes,
    parse_environment,
    read_metadata,
    service_attributes,
)

CONTAINER = "0123456789abcdef" * 4
POD = "0a1b2c3d-1111-2222-3333-444455556666"
INNER = POD.replace("-", "_")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0::/\n", {}),
        ("", {}),
        (
            "0::/system.slice/nginx.service\n",
            {
                "process.linux.cgroup": "/system.slice/nginx.service",
                "systemd.unit": "nginx.service",
            },
        ),
        (
            "0::/user.slice/user-0.slice/session-3.scope\n",
            {
                "process.linux.cgroup": "/user.slice/user-0.slice/session-3.scope",
                "systemd.unit": "session-3.scope",
            },
        ),
        (
            f"0::/system.slice/docker-{CONTAINER}.scope\n",
            {
                "process.linux.cgroup": f"/system.slice/docker-{CONTAINER}.scope",
                "container.id": CONTAINER,
            },
        ),
        (
            f"0::/kubepods.slice/kubepods-pod{INNER}.slice/cri-containerd-{CONTAINER}.scope\n",
            {
                "process.linux.cgroup": f"/kubepods.slice/kubepods-pod{INNER}.slice/"
                f"cri-containerd-{CONTAINER}.scope",
                "container.id": CONTAINER,
                "k8s.pod.uid": POD,
            },
        ),
        (
            f"12:cpu:/kubepods/burstable/pod{POD}/{CONTAINER}\n1:name=systemd:/x\n",
            {
                "process.linux.cgroup": f"/kubepods/burstable/pod{POD}/{CONTAINER}",
                "container.id": CONTAINER,
                "k8s.pod.uid": POD,
            },
        ),
        ("nonsense\n\xff", {}),
    ],
)
def test_a_cgroup_names_container_pod_and_unit(text, found):
    assert cgroup_attributes(text) == found


def test_a_service_says_its_name():
    said = "service.name=a,service.version=2,team=x"

    assert service_attributes({"OTEL_RESOURCE_ATTRIBUTES": said}) == {
        "service.name": "a",
        "service.version": "2",
    }
    both = {"OTEL_RESOURCE_ATTRIBUTES": said, "OTEL_SERVICE_NAME": "b"}
    assert service_attributes(both)["service.name"] == "b"
    assert service_attributes({"OTEL_RESOURCE_ATTRIBUTES": "broken"}) == {}


def test_an_environment_may_hold_anything():
    assert parse_environment(b"A=1\0B\0=c\0A=2\0\xff=\xfe\0") == {
        "A": "1",
        "": "c",
        "\ufffd": "\ufffd",
    }
    assert parse_environment(b"") == {}


def test_a_process_is_described_and_only_what_was_asked_for_is_told(tmp_path):
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "cgroup").write_text("0::/a.service\n")
    (folder / "cmdline").write_bytes(b"/bin/prog\0--password=x\0")
    (folder / "environ").write_bytes(
        b"SECRET=1\0REGION=eu\0OTEL_SERVICE_NAME=" + b"s" * 999 + b"\0"
    )
    (folder / "status").write_text("Name:\tx\nNSpid:\t4711\t12\t3\nSig:\t1\n")

    assert dict(read_metadata(7, ("REGION", "MISSING"), str(tmp_path))) == {
        "process.linux.cgroup": "/a.service",
        "systemd.unit": "a.service",
        "process.command": "/bin/prog",
        "service.name": "s" * 256,
        "process.environment_variable.REGION": "eu",
        "process.vpid": "3",
    }


def test_our_own_process_can_be_described_and_one_that_is_gone_is_nothing():
    assert "process.command" in dict(read_metadata(os.getpid()))
    assert "process.vpid" not in dict(read_metadata(os.getpid())) or os.getpid() < 1000
    assert read_metadata(999_999_999) == ()
