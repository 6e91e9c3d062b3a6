# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Raw traces become finished ones: order, call sites, names kept or tried again."""

import struct
from types import SimpleNamespace

import pytest

from otelagent import metrics
from otelagent.abi._generated import Fault, FrameFlag, FrameKind, SampleFlag, Wait
from otelagent.abi.codec import Generation, RawTrace
from otelagent.model import Executable, FileId, Frame, FrameType, Function, Line
from otelagent.symbolize.result import Named, unresolved
from otelagent.traces.handler import BEGINS_UNNAMED, PythonNamers, TraceHandler
from tests.interpreters.python.worlds import Eval, PythonWorld
from tests.unwind.walks import PID

LIBC = Executable(FileId(bytes(16)), "/lib/libc.so.6")
RETURN, GUESSED = 1 << FrameFlag.RETURN_BIT, 1 << FrameFlag.GUESSED_BIT
LIFE = Generation(1000, 1, 7)


def named(text):
    return Named((Line(Function(text)),), FrameType.NATIVE)


def frame(addr, kind=FrameKind.NATIVE, flags=0, owner=5):
    return (owner, addr | kind << 48 | flags << 56)


def raw(*frames, hash_=1, kernel=(), fault=0, generation=LIFE):
    user = b"".join(struct.pack("=QQ", *each) for each in frames)
    head = (hash_, 0, 1, 7, 7, 0, 0, b"x")
    return RawTrace(*head, generation, 0, fault, 0, tuple(kernel), user)


class World:
    """What the handler asks; each question is noted."""

    def __init__(self):
        self.asked = []
        self.jit = None
        self.python_lines = (Line(Function("py")),)
        self.has_namer = True
        python = PythonNamers(self._python, self._early)
        kernel = SimpleNamespace(name=self._kernel)
        self.handler = TraceHandler(self._file, kernel, python, self._anonymous)

    def _file(self, key):
        return (LIBC, SimpleNamespace(name=self._native)) if key == 5 else None

    def _native(self, addr, *, is_return_address):
        self.asked.append(("native", addr, is_return_address))
        return named(f"n{addr:x}")

    def _kernel(self, addr, *, is_return_address=False):
        self.asked.append(("kernel", addr, is_return_address))
        return named(f"k{addr:x}")

    def _python(self, generation, space):
        self.asked.append(("python", generation, space))
        if not self.has_namer:
            return None
        return SimpleNamespace(name=lambda *_: Frame(FrameType.PYTHON, lines=self.python_lines))

    def _early(self, copies):
        self.asked.append(("early", copies.generation))
        return SimpleNamespace(read_ahead=self._read) if self.has_namer else None

    def _read(self, code, _block):
        self.asked.append(("read", code))

    def _anonymous(self, generation, addr):
        self.asked.append(("jit", addr, generation))
        return self.jit

    def names(self, trace):
        return [each.lines[0].function.name if each.lines else "" for each in trace.frames]


@pytest.fixture
def world():
    return World()


def test_a_wait_begins_with_why_and_then_the_scheduler(world):
    world._kernel = lambda addr, **_: named({1: "bpf_trace_run4", 2: "__schedule"}.get(addr, "k"))
    world.handler._kernel = SimpleNamespace(name=world._kernel)
    flags = 1 << SampleFlag.OFF_CPU_BIT | Wait.BLOCKED << SampleFlag.WAIT_BIT
    waited = raw(frame(0x10), kernel=(1, 2, 3))._replace(flags=flags)

    trace = world.handler.finish(waited)

    assert world.names(trace) == ["[off-CPU: blocked]", "__schedule", "k", "n10"]
    assert trace.frames[0].type is FrameType.OFF_CPU


def test_without_names_of_the_kernel_a_wait_has_all_its_frames(world):
    flags = 1 << SampleFlag.OFF_CPU_BIT | 7 << SampleFlag.WAIT_BIT
    trace = world.handler.finish(raw(frame(0x10), kernel=(1, 2))._replace(flags=flags))

    assert world.names(trace) == ["[off-CPU: waiting]", "k1", "k2", "n10"]


def test_kernel_frames_come_first_and_callers_are_named_at_their_calls(world):
    trace = world.handler.finish(raw(frame(0x10), frame(0x20, flags=RETURN), kernel=(0xF0, 0xF8)))

    assert world.names(trace) == ["kf0", "kf8", "n10", "n20"]
    assert [each.address for each in trace.frames] == [0xF0, 0xF7, 0x10, 0x1F]
    assert [each.type for each in trace.frames] == [FrameType.KERNEL] * 2 + [FrameType.NATIVE] * 2
    assert ("native", 0x20, True) in world.asked
    assert ("kernel", 0xF8, True) in world.asked
    assert trace.frames[2].executable is LIBC
    assert trace.fault == ""


def test_each_frame_is_named_once(world):
    first = world.handler.finish(raw(frame(0x10), hash_=1))
    second = world.handler.finish(raw(frame(0x10), hash_=2))

    assert world.handler.finish(raw(frame(0x10), hash_=1)) is first
    assert second.frames[0] is first.frames[0]
    assert len(world.asked) == 1


@pytest.mark.parametrize(("fault", "name"), [(Fault.NO_ROW, "NO_ROW"), (250, "250")])
def test_fault_has_a_name(world, fault, name):
    assert world.handler.finish(raw(frame(1), fault=fault)).fault == name


def test_guessed_frame_says_so(world):
    assert world.handler.finish(raw(frame(1, flags=GUESSED))).frames[0].guessed


def test_trampoline_is_named_only_by_a_symbol_that_begins_there(world):
    """One that reaches over it, as musl's do that have no size, has another function's name."""
    begin = 1 << FrameFlag.BEGIN_BIT
    python, where = PythonNamers(lambda *_: None), []
    for before in ("setjmp", "restore"):
        names = {True: named(before), False: named("restore")}
        symbols = SimpleNamespace(
            name=lambda _, *, is_return_address, n=names: n[is_return_address]
        )
        file = (LIBC, symbols)
        handler = TraceHandler(lambda _, f=file: f, SimpleNamespace(), python, lambda *_: None)
        where += handler.finish(raw(frame(0x100, flags=begin))).frames

    assert [each.address for each in where] == [0x100, 0x100]
    assert where[0].lines[0].function.name == "restore"
    assert (where[1].lines, where[1].reason) == ((), BEGINS_UNNAMED)


def test_unknown_file_keeps_the_address_and_a_reason(world):
    before = metrics.unresolved.total

    found = world.handler.finish(raw(frame(0x10, owner=9))).frames[0]

    assert (found.address, found.executable) == (0x10, None)
    assert "not known" in found.reason
    assert metrics.unresolved.total == before + 1


def test_return_address_of_zero_does_not_wrap(world):
    assert world.handler.finish(raw(frame(0, flags=RETURN))).frames[0].address == 0


def test_python_frame_is_named_while_its_process_lives(world):
    seen = raw(frame(3, FrameKind.PYTHON))
    world.handler.see(seen)
    world.has_namer = False

    assert world.names(world.handler.finish(seen)) == ["py"]


def test_python_frame_without_a_name_is_tried_again_and_counted_once(world):
    before = metrics.unresolved.total
    seen = raw(frame(3, FrameKind.PYTHON))
    world.has_namer = False
    world.handler.see(seen)
    world.handler.see(seen)
    world.has_namer = True

    assert world.names(world.handler.finish(seen)) == ["py"]
    assert metrics.unresolved.total == before + 1


def test_python_frames_of_two_lives_are_not_the_same(world):
    world.handler.see(raw(frame(3, FrameKind.PYTHON)))
    world.python_lines = (Line(Function("other")),)

    trace = world.handler.finish(
        raw(frame(3, FrameKind.PYTHON), hash_=2, generation=Generation(1000, 2, 7))
    )

    assert world.names(trace) == ["other"]


def test_code_of_a_jit_is_asked_for_until_it_has_a_name(world):
    seen = raw(frame(0x99, FrameKind.ANON, RETURN))
    world.handler.see(seen)
    world.jit = unresolved("no map yet")
    world.handler.see(seen)
    world.jit = named("compiled")

    trace = world.handler.finish(seen)

    assert world.names(trace) == ["compiled"]
    assert {each[1] for each in world.asked} == {0x98}
    count = len(world.asked)
    world.handler.finish(raw(frame(0x99, FrameKind.ANON, RETURN), hash_=2))
    assert len(world.asked) == count


def test_what_is_no_code_has_its_address_and_says_so(world):
    trace = world.handler.finish(raw(frame(0x1234, FrameKind.NOWHERE)))

    (found,) = trace.frames
    assert (found.type, found.address) == (FrameType.NATIVE, 0x1234)
    assert found.executable.path == "[no code]"
    assert "null or wild pointer" in found.reason


def test_forgotten_traces_take_their_frames_along_and_are_made_anew(world):
    kept, gone = raw(frame(1), frame(2))._replace(hash=1), raw(frame(1), frame(3))._replace(hash=2)
    first = [world.handler.finish(each) for each in (kept, gone)]
    assert world.handler.frame_count == 3

    world.handler.forget([2, 99])
    world.handler.keep({1: kept})

    assert world.handler.frame_count == 2
    assert world.handler.finish(kept) is first[0]
    assert world.handler.finish(gone) == first[1]


@pytest.mark.parametrize("has_namer", [True, False])
def test_code_objects_of_a_deferred_stack_are_read_at_once(world, has_namer):
    process = PythonWorld(11, [Eval(("leaf", "root"))])
    world.has_namer = has_namer

    world.handler.see_deferred(process.copy())

    assert world.asked[0] == ("early", Generation(11, 12, PID))
    read = {code for what, code in world.asked[1:] if what == "read"}
    assert read >= set(process.codes.values()) if has_namer else not read


def test_a_stack_that_was_cut_says_why_in_a_frame_if_asked_for(world):
    cut = raw(frame(1), fault=Fault.NO_ROW)

    plain = world.handler.finish(cut)
    world.handler.forget([cut.hash])
    world.handler.error_frames = True
    told = world.handler.finish(cut)

    assert told.frames[:-1] == plain.frames
    assert told.frames[-1].type is FrameType.ERROR
    name = told.frames[-1].lines[0].function.name
    assert name.startswith("[unwinding error: no_row: no unwind row covers the address")
