# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every way to attach a program, and what happens without privilege."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from otelagent.bpf.maps import ArrayMap
from otelagent.bpf.object import BpfObject
from otelagent.errors import AttachFailed

PROGRAMS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char test_license[] SEC("license") = "Dual BSD/GPL";
const volatile unsigned int self_pid = 0;
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, unsigned int);
	__type(value, unsigned long long);
} hits SEC(".maps");

static __always_inline int hit(unsigned int which)
{
	unsigned long long *count = bpf_map_lookup_elem(&hits, &which);

	if (count && bpf_get_current_pid_tgid() >> 32 == self_pid)
		__sync_fetch_and_add(count, 1);
	return 0;
}

SEC("raw_tp") int on_raw(void *ctx) { return hit(0); }
SEC("tracepoint") int on_point(void *ctx) { return hit(1); }
SEC("uprobe") int on_call(void *ctx) { return hit(2); }
"""
WITHOUT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
SAY_WHY = """
from otelagent.bpf.links import Rate, open_sampling
from otelagent.bpf.object import BpfObject, object_path
from otelagent.bpf.sideband import Sideband
from otelagent.errors import NotPermitted
try:
    %s
except NotPermitted as err:
    print(err, "|", err.hint)
"""


@pytest.fixture
def owner(tmp_path):
    (tmp_path / "x.c").write_text(PROGRAMS)
    include = subprocess.check_output(["cc", "-print-multiarch"], text=True).strip()
    flags = ["-target", "bpf", "-O2", "-g", "-idirafter", f"/usr/include/{include}"]
    subprocess.check_call(["clang", *flags, "-c", tmp_path / "x.c", "-o", tmp_path / "x.o"])
    with BpfObject.open(tmp_path / "x.o") as opened:
        opened.set_variable("self_pid", os.getpid().to_bytes(4, sys.byteorder))
        opened.load()
        yield opened


def hits(owner, which):
    return int.from_bytes(ArrayMap.of(owner, "hits")[which], sys.byteorder)


@pytest.mark.needs("bpf", "tool:clang")
def test_a_raw_tracepoint_needs_no_tracefs(owner):
    with owner.program("on_raw").attach_raw_tracepoint("sched_process_fork"):
        subprocess.check_call(["/bin/true"])
        seen = hits(owner, 0)
    subprocess.check_call(["/bin/true"])

    assert seen >= 1
    assert hits(owner, 0) == seen, "a closed link is detached"


@pytest.mark.needs("bpf", "tool:clang")
def test_a_tracepoint_is_attached_by_name(owner):
    if not Path("/sys/kernel/tracing/events/sched").exists():
        pytest.skip("needs tracefs")
    with owner.program("on_point").attach_tracepoint("sched", "sched_process_fork"):
        subprocess.check_call(["/bin/true"])

    assert hits(owner, 1) >= 1


@pytest.mark.needs("bpf", "tool:clang")
def test_a_uprobe_counts_calls_of_this_process(owner):
    libc = next(
        Path(line.split()[-1])
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libc.so" in line
    )
    with libc.open("rb") as stream:
        elf = ELFFile(stream)
        (symbol,) = elf.get_section_by_name(".dynsym").get_symbol_by_name("getppid")
        (offset,) = elf.address_offsets(symbol["st_value"])
    with owner.program("on_call").attach_uprobe(libc, offset, pid=os.getpid()):
        for _ in range(7):
            ctypes.CDLL(None).getppid()

    assert hits(owner, 2) == 7


@pytest.mark.needs("bpf", "tool:clang")
def test_a_hook_that_is_not_there_is_named(owner):
    with pytest.raises(AttachFailed, match="on_raw to raw tracepoint nonesuch"):
        owner.program("on_raw").attach_raw_tracepoint("nonesuch")
    with pytest.raises(AttachFailed, match="sched:nonesuch"):
        owner.program("on_point").attach_tracepoint("sched", "nonesuch")


@pytest.mark.needs("bpf", "tool:setpriv")
@pytest.mark.parametrize(
    ("doing", "words"),
    [
        ("BpfObject.open(object_path('calibrate')).load()", ["CAP_BPF", "EPERM"]),
        (
            "open_sampling(Rate(frequency_hz=99), 0)",
            ["perf_event_paranoid is", "CAP_PERFMON", "EACCES"],
        ),
        ("Sideband().open()", ["perf_event_paranoid is", "process events"]),
    ],
    ids=["load", "perf event", "sideband"],
)
def test_without_capabilities_the_user_learns_which(doing, words):
    said = subprocess.check_output([*WITHOUT, sys.executable, "-c", SAY_WHY % doing], text=True)

    for word in words:
        assert word in said
