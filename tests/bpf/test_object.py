# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What can be said of an object without loading it."""

import errno
from types import SimpleNamespace

import pytest

from otelagent._native import ffi
from otelagent.bpf import object as loader
from otelagent.bpf.btf import Btf
from otelagent.bpf.object import BpfObject, has_core_relocations, object_path
from otelagent.errors import LoadFailed, MissingFeature


@pytest.fixture
def profiler():
    with BpfObject.open(object_path("profiler")) as opened:
        yield opened


def test_programs_and_maps_are_listed(profiler):
    assert "on_cpu_tick" in profiler.programs()
    assert "events" in profiler.maps()


def test_a_variable_takes_exactly_its_size(profiler):
    size = ffi.sizeof("struct oa_config")
    profiler.set_variable("config", bytes(size))

    with pytest.raises(LoadFailed, match=f"does not have {size - 1} bytes"):
        profiler.set_variable("config", bytes(size - 1))


def test_unknown_names_are_named(profiler):
    for refused in (
        lambda: profiler.set_variable("nonesuch", b""),
        lambda: profiler.set_max_entries("nonesuch", 1),
        lambda: profiler.set_autoload("nonesuch", on=True),
        lambda: profiler.map_info("nonesuch"),
        lambda: profiler.struct_size("nonesuch"),
    ):
        with pytest.raises(LoadFailed, match="nonesuch"):
            refused()


def test_a_map_can_be_sized_before_it_is_made(profiler):
    profiler.set_max_entries("processes", 12_345)

    assert profiler.map_info("processes").max_entries == 12_345


def test_a_program_that_is_not_loaded_has_no_descriptor(profiler):
    with pytest.raises(LoadFailed, match="on_cpu_tick is not loaded"):
        _ = profiler.program("on_cpu_tick").fd


@pytest.mark.parametrize(
    ("state", "words", "hint"),
    [
        ("none integrity [confidentiality]", "kernel lockdown forbids", "lockdown=integrity"),
        ("none [integrity] confidentiality", "the kernel refused", "doctor"),
    ],
)
def test_what_lockdown_forbids_is_told(profiler, monkeypatch, state, words, hint):
    """The verifier then says that it does not know the helper: EINVAL, not EPERM (7.3)."""
    calls = {"oa_object_load": lambda _: -errno.EINVAL, "oa_object_log": loader.lib.oa_object_log}
    with monkeypatch.context() as patch:
        patch.setattr(loader, "lib", SimpleNamespace(**calls))
        patch.setattr(loader, "read_lockdown", lambda: state)
        with pytest.raises(LoadFailed, match=words) as refused:
            profiler.load()

    assert hint in refused.value.hint


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF" + bytes(100), b"text"])
def test_a_file_that_is_no_object_is_refused_without_output(tmp_path, capfd, content):
    path = tmp_path / "x.bpf.o"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(LoadFailed, match=r"x\.bpf\.o"):
        BpfObject.open(path)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["profiler", "offcpu", "calibrate"])
def test_our_objects_need_no_btf_of_the_kernel(name):
    assert not has_core_relocations(object_path(name))


def test_an_object_that_is_not_shipped_is_a_missing_feature():
    with pytest.raises(MissingFeature, match="nonesuch"):
        object_path("nonesuch")


def test_btf_gives_offsets_of_nested_fields():
    with Btf.open(object_path("profiler")) as btf:
        assert btf.offset("oa_trace", "sample.kind") == 32
        assert btf.offset("oa_trace", "generation.exec_id") == ffi.offsetof(
            "struct oa_trace", "generation", "exec_id"
        )
        assert btf.offset("oa_trace", "sample.nonesuch") is None
        assert btf.offset("nonesuch", "x") is None


def test_a_file_without_btf_is_a_missing_feature(tmp_path):
    (tmp_path / "raw").write_bytes(b"\x9f\xeb\x01\x00" + bytes(64))

    for path in (tmp_path / "raw", tmp_path / "gone"):
        with pytest.raises(MissingFeature, match="no BTF"):
            Btf.open(path)
