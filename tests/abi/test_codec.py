# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from otelagent._native import ffi
from otelagent.abi._generated import FrameKind
from otelagent.abi.codec import Generation, decode_report, decode_trace


def make_trace(kernel, user):
    header = ffi.new("struct oa_trace *")
    header.sample.hash = 7
    header.sample.time_ns = 8
    header.sample.weight = 9
    header.sample.pid = 10
    header.sample.tid = 11
    header.sample.cpu = 3
    header.sample.flags = 5
    header.sample.comm = list(b"name".ljust(len(header.sample.comm), b"\0"))
    header.generation.start_ns = 12
    header.generation.exec_id = 13
    header.generation.pid = 10
    header.fault_pc = 14
    header.fault = 2
    header.steps = 15
    header.space = 16
    header.kernel_frames = len(kernel)
    header.user_frames = len(user)
    words = [*kernel, *(word for frame in user for word in frame)]
    return ffi.buffer(header)[:] + b"".join(word.to_bytes(8, "little") for word in words)


def test_trace_comes_back_field_by_field():
    data = make_trace([0xFFFFFFFF81000000], [(1, 0x1234 | 1 << 48 | 3 << 56), (2, 0x5678)])

    trace = decode_trace(data)

    assert trace[:7] == (7, 8, 9, 10, 11, 3, 5)
    assert trace.comm.rstrip(b"\0") == b"name"
    assert Generation(12, 13, 10) == trace.generation
    assert (trace.fault_pc, trace.fault, trace.steps, trace.space) == (14, 2, 15, 16)
    assert trace.kernel == (0xFFFFFFFF81000000,)
    first, second = trace.frames()
    assert first[:5] == (1, 0x1234, FrameKind.PYTHON, True, True)
    assert second[:5] == (2, 0x5678, FrameKind.NATIVE, False, False)


def test_cut_trace_is_refused():
    data = make_trace([1, 2], [(3, 4)])

    for size in range(len(data)):
        with pytest.raises(ValueError, match="trace record"):
            decode_trace(data[:size])


def test_report_comes_back_field_by_field():
    report = ffi.new("struct oa_report *")
    report.time_ns, report.addr, report.tid, report.reason = 1, 2, 6, 3
    report.generation.start_ns, report.generation.exec_id, report.generation.pid = 3, 4, 5

    got = decode_report(ffi.buffer(report)[:])

    assert (1, 2, Generation(3, 4, 5), 6, 3) == got
