# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real program's stack, unwound by rows from its own and the C library's CFI."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from otelagent._native import ffi
from otelagent.abi._generated import Fault, FrameFlag, RecordKind
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.formats.proc_maps import parse_executable
from otelagent.unwind.extract import extract
from otelagent.unwind.host import HostTables, HostUnwinder
from tests.unwind.walks import SP

SOURCE = Path(__file__).parent / "programs" / "chain.c"
FLAGS = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"]
HEAD = ffi.offsetof("struct oa_deferred", "stack")
PID = 9


@pytest.fixture(scope="module", params=["-pie", "-no-pie", "-static"])
def program(request, tmp_path_factory):
    if not shutil.which("cc") or not shutil.which("nm"):
        pytest.skip("needs a C compiler and nm")
    path = tmp_path_factory.mktemp("chain") / "chain"
    pie = "-fPIE" if request.param == "-pie" else "-fno-pie"
    subprocess.run(["cc", *FLAGS, pie, request.param, "-o", path, SOURCE], check=True)
    return path


def run(program, scenario):
    """Give (deferred record, mappings of the process)."""
    out = program.with_name("out")
    result = subprocess.run([program, scenario, out], capture_output=True, check=True)
    data = out.read_bytes()
    *gp, pc = struct.unpack_from("=33Q", data)
    stack = data[33 * 8 :]
    record = ffi.new("struct oa_deferred *")
    record.trace.sample.kind = RecordKind.DEFERRED
    record.trace.generation.pid = PID
    record.regs.gp[0:32] = gp
    record.regs.pc = pc
    record.regs.valid_all = 1
    record.stack_addr = gp[SP]
    record.stack_bytes = len(stack)
    ffi.memmove(record.stack, stack, len(stack))
    return ffi.buffer(record)[: HEAD + len(stack)], list(parse_executable(result.stdout))


def unwind(program, scenario, max_frames=1024):
    """Give the functions of the stack, newest first, and why it ended."""
    record, mappings = run(program, scenario)
    tables, files = HostTables(), {}
    tables.set_process(PID, 0, 0, 1)
    for mapping in mappings:
        if not mapping.path.startswith("/"):
            continue
        elf = ElfFile(BytesSource(Path(mapping.path).read_bytes()))
        if mapping.path not in files:
            files[mapping.path] = len(files) + 1
            tables.add_table(files[mapping.path], extract(elf))
        bias = mapping.start - elf.address_of(mapping.offset)
        given = {"bias": bias, "file_id": files[mapping.path]}
        tables.add_mapping(1, mapping.start, mapping.end, **given)
    out = HostUnwinder(tables, max_user_frames=max_frames).unwind(record)
    trace = ffi.cast("struct oa_trace *", ffi.from_buffer(out))
    names = {number: symbols(path) for path, number in files.items()}
    frames = struct.iter_unpack("=QQ", out[ffi.sizeof("struct oa_trace") :])
    return [name_of(names[file], addr) for file, addr in frames], Fault(trace.fault)


def symbols(path):
    """Sorted functions (address, name) by nm."""
    found = []
    for table in ([], ["-D"]):
        text = subprocess.run(
            ["nm", "--defined-only", *table, path], capture_output=True, text=True, check=True
        ).stdout
        found += re.findall(r"^([0-9a-f]+) [tTwWi] (\w+)", text, re.MULTILINE)
    return sorted((int(addr, 16), name) for addr, name in found)


def name_of(table, word):
    addr = (word & (1 << 48) - 1) - (word >> 56 >> FrameFlag.RETURN_BIT & 1)
    return max((entry for entry in table if entry[0] <= addr), default=(0, "?"))[1]


def ours(names):
    """Drop what the C library's own functions are called, which differs."""
    keep = re.compile(r"snapshot|gamma_step|in_\w+|compare|on_signal|faulting|main|_start")
    return [name for name in names if keep.fullmatch(name)]


@pytest.mark.parametrize(
    ("scenario", "chain"),
    [
        ("plain", ["gamma_step"]),
        ("deep", ["gamma_step"] * 41),
        ("alloca", ["gamma_step", "in_alloca"]),
        ("qsort", ["gamma_step", "gamma_step", "compare", "in_qsort"]),
        ("signal", ["gamma_step", "gamma_step", "on_signal", "faulting", "in_signal"]),
    ],
)
def test_the_whole_stack_has_the_functions_that_were_called(program, scenario, chain):
    names, fault = unwind(program, scenario)

    assert (ours(names), fault) == (["snapshot", *chain, "main", "_start"], Fault.NONE)


def test_a_thread_ends_where_it_began(program):
    names, fault = unwind(program, "thread")

    assert (ours(names), fault) == (["snapshot", *["gamma_step"] * 3, "in_thread"], Fault.NONE)


def test_a_stack_deeper_than_the_copy_keeps_its_newest_frames(program):
    names, fault = unwind(program, "cut")

    assert fault == Fault.DEFERRED_CUT
    assert set(names[1:]) == {"wide_step"}
    assert len(names) > 300
