# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import platform
from pathlib import Path

import pytest

from otelagent._native import ffi
from otelagent.errors import MissingFeature
from otelagent.kernel import offsets, scan
from otelagent.kernel.offsets import KernelOffsets, TaskOffsets, read_btf_offsets


class FakeBtf:
    """A kernel whose task_struct has the given fields, 8 bytes apart."""

    def __init__(self, *names):
        self.path = Path("fake")
        self.names = names

    def offset(self, struct, field):
        assert struct == "task_struct"
        return self.names.index(field) * 8 if field in self.names else None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


COMMON = ("stack", "mm", "pid", "tgid", "group_leader", "self_exec_id")


@pytest.mark.parametrize("start", ["start_boottime", "real_start_time"])
@pytest.mark.parametrize(
    ("machine", "tls"),
    [
        ("x86_64", "thread.fsbase"),
        ("aarch64", "thread.uw.tp_value"),
        ("aarch64", "thread.tp_value"),
    ],
)
def test_fields_are_found_under_the_names_of_several_kernels(monkeypatch, start, machine, tls):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(offsets.Btf, "open", lambda _: FakeBtf(*COMMON, start, tls))

    found = read_btf_offsets(Path("x"))

    assert (found.task_mm, found.task_start_boottime, found.task_tls) == (8, 48, 56)


def test_a_missing_field_is_named(monkeypatch):
    monkeypatch.setattr(offsets.Btf, "open", lambda _: FakeBtf(*COMMON[1:]))

    with pytest.raises(MissingFeature, match="no field stack"):
        read_btf_offsets(Path("x"))


def test_every_value_has_its_field_in_the_config():
    config = ffi.new("struct oa_config *")
    found = KernelOffsets(TaskOffsets(*range(1, 9)), 0x3F58, "test")

    for name, value in found.config_fields().items():
        setattr(config, name, value)

    assert (config.task_stack, config.task_tls) == (1, 8)
    assert config.user_regs_distance == 0x3F58


def test_a_kernel_without_btf_is_searched(monkeypatch):
    def refuse(path=None):
        raise MissingFeature(f"no BTF in {path}")

    known = dict(zip(TaskOffsets.__slots__, range(8, 16), strict=True))
    monkeypatch.setattr(offsets, "read_btf_offsets", refuse)
    monkeypatch.setattr(scan, "read_witnesses", lambda: "witnesses")
    monkeypatch.setattr(scan, "scan_offsets", {"witnesses": known}.get)
    monkeypatch.setattr(offsets, "read_ticks", list)
    monkeypatch.setattr(offsets, "find_regs_distance", lambda _, stack: 0x4000 + stack)

    found = offsets.find_offsets()

    assert (found.task, found.user_regs_distance) == (TaskOffsets(**known), 0x4008)
    assert "search" in found.source
    with pytest.raises(MissingFeature, match="given"):
        offsets.find_offsets(Path("given"))
