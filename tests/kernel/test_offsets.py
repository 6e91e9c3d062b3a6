# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import platform
from pathlib import Path

import pytest

from otelagent._native import ffi
from otelagent.bpf.btf import VMLINUX
from otelagent.errors import MissingFeature, NotPermitted
from otelagent.kernel import offsets, scan
from otelagent.kernel.offsets import KernelOffsets, TaskOffsets, find_offsets, read_btf_offsets


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


TRUE = TaskOffsets(32, 1136, 1264, 1268, 1328, 1560, 2016, 3128)
WRONG = dataclasses.replace(TRUE, task_pid=1272)
MINE = Path("/boot/vmlinux-mine")
NO_BTF = offsets.NO_BTF
AUXV = 888


@pytest.fixture
def kernel(monkeypatch):
    """A kernel: which BTF files there are and what they say, and what searches find."""

    def make(files=None, **searches):
        files = files or {}

        def read(path):
            if isinstance(files.get(path), TaskOffsets):
                return files[path]
            raise MissingFeature(f"no BTF in {path}")

        def search(look):
            if look.name in searches:
                return searches[look.name]
            raise NotPermitted("denied")

        monkeypatch.setattr(offsets, "find_btf_files", lambda: list(files))
        monkeypatch.setattr(offsets, "read_btf_offsets", read)
        monkeypatch.setattr(offsets, "read_auxv_offset", lambda path: AUXV)
        monkeypatch.setattr(offsets, "read_state_offset", lambda path: AUXV + 16)
        monkeypatch.setattr(offsets, "_find_auxv", lambda mm: AUXV + 8)
        monkeypatch.setattr(offsets, "_search", search)
        monkeypatch.setattr(offsets, "look_here", lambda read: read() or Here())
        monkeypatch.setattr(offsets, "read_ticks", list)
        monkeypatch.setattr(offsets, "find_regs_distance", lambda _, stack: 0x4000 + stack)
        monkeypatch.setattr(offsets, "find_contradictions", contradict)

    return make


class Here:
    """Our own thread on this kernel."""

    def u64(self, offset):
        assert offset == TRUE.task_mm
        return 0


def contradict(_here, task):
    return [name for name, at in TRUE.by_name().items() if task[name] != at]


RAW, SYSCALLS, TICKS = (look.name for look in (*scan.BY_SYSCALLS, scan.BY_TICKS))


def test_the_kernels_own_btf_is_believed_and_no_search_made(kernel):
    kernel({VMLINUX: TRUE, MINE: WRONG})

    found = find_offsets()

    assert (found.task, found.user_regs_distance) == (TRUE, 0x4020)
    assert str(VMLINUX) in found.source
    assert (found.again, found.unseen, found.passed_over) == (offsets._OWN, (), ())


def test_what_our_thread_does_not_show_is_told(kernel):
    kernel({VMLINUX: WRONG})

    assert find_offsets().unseen == ("task_pid",)


def test_a_file_at_a_known_place_is_taken_if_it_fits_our_thread(kernel):
    other = Path("/usr/lib/debug/x")
    kernel({other: WRONG, Path("/empty"): None, MINE: TRUE})

    found = find_offsets()

    assert (found.task, found.source) == (TRUE, f"BTF file {MINE}")
    assert found.config_fields()["mm_auxv"] == AUXV
    told = (f"{other} is of another kernel: task_pid would be wrong", "no BTF in /empty")
    assert found.passed_over == (NO_BTF, *told)


def test_a_given_file_goes_first_and_must_fit(kernel):
    kernel({VMLINUX: TRUE, MINE: WRONG})

    with pytest.raises(MissingFeature, match="another kernel: task_pid"):
        find_offsets(MINE)
    with pytest.raises(MissingFeature, match="no BTF in /nowhere"):
        find_offsets(Path("/nowhere"))
    kernel({VMLINUX: WRONG, MINE: TRUE})
    assert find_offsets(MINE).source == f"BTF file {MINE}"


def test_without_btf_two_searches_must_agree(kernel):
    kernel(**{RAW: TRUE, TICKS: TRUE})

    found = find_offsets()

    assert (found.task, found.source, found.again) == (TRUE, RAW, TICKS)
    assert found.mm_auxv == AUXV + 8
    assert (found.unseen, found.passed_over) == ((), (NO_BTF,))
    kernel(**{RAW: TRUE, TICKS: WRONG})
    with pytest.raises(MissingFeature, match="agree on task_pid"):
        find_offsets()


@pytest.mark.parametrize(
    ("there", "source", "again"),
    [
        ((SYSCALLS, TICKS), SYSCALLS, TICKS),
        ((TICKS,), TICKS, ""),
        ((RAW, SYSCALLS), RAW, ""),
    ],
)
def test_either_search_suffices(kernel, there, source, again):
    kernel(**dict.fromkeys(there, TRUE))

    found = find_offsets()

    assert (found.task, found.source, found.again) == (TRUE, source, again)
    assert bool(found.unseen) is not bool(again)


def test_no_source_left_names_each_with_its_reason(kernel):
    kernel({MINE: None})

    with pytest.raises(MissingFeature) as caught:
        find_offsets()

    for words in (NO_BTF, f"no BTF in {MINE}", f"{RAW}: denied", f"{SYSCALLS}: d", f"{TICKS}: d"):
        assert words in str(caught.value)
    assert caught.value.exit_status == 69
    assert "--btf-path" in caught.value.hint


def test_where_perf_events_are_denied_what_is_left_is_named(kernel, monkeypatch):
    def deny():
        raise NotPermitted("no perf events", hint="x")

    kernel(**{RAW: TRUE})
    monkeypatch.setattr(offsets, "read_ticks", deny)
    with pytest.raises(MissingFeature, match="no perf events"):
        find_offsets()
    kernel()
    monkeypatch.setattr(offsets, "read_ticks", deny)
    with pytest.raises(MissingFeature, match="no source of kernel offsets is left"):
        find_offsets()
    kernel({VMLINUX: TRUE})
    monkeypatch.setattr(offsets, "read_ticks", deny)
    with pytest.raises(NotPermitted):
        find_offsets()
