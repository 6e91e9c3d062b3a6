# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A process context is read from a process that publishes one; nonsense is no context."""

import ctypes
import mmap
import os
import struct

import pytest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelagent.abi.codec import Generation
from otelagent.processes.context import parse_payload, read_context
from otelagent.processes.notes import FIRST_LOOKS, ProcessNotes


def payload(**attributes):
    """A `ProcessContext`: field 1 is the resource, field 2 (other attributes) is not ours."""
    resource = Resource()
    for key, value in attributes.items():
        entry = resource.attributes.add(key=key.replace("_", "."))
        field = {str: "string_value", bool: "bool_value", int: "int_value"}[type(value)]
        setattr(entry.value, field, value)
    data = resource.SerializeToString()
    assert len(data) < 128
    return bytes((0x0A, len(data))) + data + b"\x12\x02\x0a\x00"


class Published:
    """What a library does in its own process: a mapping of a memfd that is closed again."""

    def __init__(self, data, *, version=2, published_ns=7, signature=b"OTEL_CTX"):
        fd = os.memfd_create("OTEL_CTX", os.MFD_CLOEXEC)
        os.ftruncate(fd, 4096)
        self.memory = mmap.mmap(fd, 4096, mmap.MAP_PRIVATE)
        os.close(fd)
        self.view = (ctypes.c_char * 4096).from_buffer(self.memory)
        at = ctypes.addressof(self.view) + 32
        head = struct.pack("<8sIIQQ", signature, version, len(data), published_ns, at)
        self.memory[: 32 + len(data)] = head + data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        del self.view
        self.memory.close()


def test_what_a_process_publishes_is_read():
    data = payload(service_name="shop", service_instance_id="i-7", replicas=3, canary=True)
    with Published(data):
        found = dict(read_context(os.getpid()))

    assert found == {
        "service.name": "shop",
        "service.instance.id": "i-7",
        "replicas": "3",
        "canary": "true",
    }
    assert read_context(os.getpid()) == ()


def test_a_process_does_not_say_which_process_or_machine_it_is():
    assert parse_payload(payload(process_pid="1", host_name="x", container_id="y")) == ()


@pytest.mark.parametrize(
    "how",
    [{"version": 1}, {"published_ns": 0}, {"signature": b"OTEL_CTY"}],
)
def test_what_is_of_another_kind_or_being_changed_is_left_alone(how):
    with Published(payload(service_name="shop"), **how):
        assert read_context(os.getpid()) == ()


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\x7f", b"\x0a\x02\x0a\x7f", b"\x08"])
def test_nonsense_is_no_context(data):
    with Published(data):
        assert read_context(os.getpid()) == ()
    with pytest.raises(ValueError, match="no"):
        parse_payload(data)


def test_a_process_that_is_gone_has_none():
    assert read_context(999_999_999) == ()


def test_it_is_looked_for_again_as_libraries_are_set_up_later():
    life, said = Generation(1, 0, 7), []
    asked = []
    about = ProcessNotes(
        lambda _pid: (("service.name", "from its environment"), ("container.id", "c")),
        lambda pid: asked.append(pid) or tuple(said),
    )
    about.see(life)
    assert about.look_again([life]) == []

    said.append(("service.name", "own"))
    news = [bool(about.look_again([life])) for _ in range(11)]

    assert len(asked) == len(FIRST_LOOKS)
    assert news == [True] + [False] * 10
    assert dict(about.of(life)) == {"service.name": "own", "container.id": "c"}
    about.keep(set())
    assert about.of(life) == ()
