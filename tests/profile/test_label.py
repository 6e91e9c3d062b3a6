# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from otelagent.model import Frame, FrameType, Pid, Process, Thread
from otelagent.profile.label import label_frame, label_process, label_thread
from tests.builders.profiles import KERNEL, LIBC, native


def name(frame: Frame) -> str:
    return label_frame(frame)[0][0].name


def test_a_frame_without_a_name_is_its_file_and_address():
    assert name(native(LIBC, 0x91234)) == "libc.so.6+0x91234"
    assert name(Frame(FrameType.KERNEL, 0xFFFF0000, KERNEL)) == "[kernel.kallsyms]+0xffff0000"
    assert name(Frame(FrameType.JIT, 0x7F00)) == "[anon]+0x7f00"
    assert name(Frame(FrameType.PYTHON)) == "[unknown]"


def test_inlined_functions_come_innermost_first_with_their_lines():
    labels = label_frame(native(LIBC, 1, "inner", "outer"))

    assert [(label.name, line) for label, line in labels] == [("inner", 12), ("outer", 13)]


def test_processes_and_threads_have_a_name_even_without_one():
    assert label_process(Process(Pid(4), "", "/usr/bin/cat")) == "cat"
    assert label_process(Process(Pid(4), "")) == "pid 4"
    assert label_thread(Thread(9, "worker")) == "worker (9)"
    assert label_thread(Thread(9)) == "thread (9)"
