# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import io
import re
from pathlib import Path

from otelagent.model import FrameType, Pid, Process, Thread, Trace
from otelagent.profile import table
from otelagent.profile.label import Label, place_of
from otelagent.profile.model import Profile
from otelagent.profile.table import STYLES, name_and_module, print_top
from tests.builders.profiles import python, synthetic_profile


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_plain_lines_are_not_cut_and_sorted_by_self():
    stream = io.StringIO()

    print_top(synthetic_profile(), stream, 5)

    lines = stream.getvalue().splitlines()
    assert lines[0].split() == ["self", "total", "function"]
    shares = [float(line.split()[0].rstrip("%")) for line in lines[1:]]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)


def test_code_without_names_is_told_from_a_function():
    nameless = Label("[libc.so.6]", FrameType.NATIVE, "libc.so.6", resolved=False)
    named = Label("read", FrameType.NATIVE, "libc.so.6")

    assert name_and_module(nameless) == "[libc.so.6]  (without names)"
    assert name_and_module(named) == "read  [libc.so.6]"
    assert place_of(nameless) == "(without names)"
    assert place_of(named) == "libc.so.6"
    assert name_and_module(Label("f", FrameType.NATIVE, "[vdso]")) == "f  [vdso]"
    assert name_and_module(Label("[unknown]", FrameType.NATIVE, resolved=False)) == "[unknown]"


def test_a_terminal_gets_a_table():
    stream = Terminal()

    print_top(synthetic_profile(), stream, 5)

    assert len(stream.getvalue().splitlines()) == 6


def test_a_name_cannot_steer_the_terminal():
    profile = Profile()
    trace = Trace((python("evil\x1b[2J[red]\u202e", "a.py", 3),))
    profile.add(trace, Process(Pid(1), "p"), Thread(1), 1, 1)
    for stream in (Terminal(), io.StringIO()):
        print_top(profile, stream)

        assert "\x1b[2J" not in stream.getvalue()
        assert "\u202e" not in stream.getvalue()
        assert "[red]" in stream.getvalue()


def test_every_kind_of_frame_has_a_colour_here_and_in_the_page():
    script = (Path(table.__file__).parent / "static" / "flamegraph.js").read_text()
    kinds = re.search(r"const KINDS = {(.*?)};", script, re.DOTALL)[1]

    assert set(STYLES) == set(FrameType)
    assert {kind for kind in FrameType if not re.search(rf'\b"?{kind}"?: \[', kinds)} == set()
