# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.errors import FormatError
from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile.formats import collapsed
from otelagent.profile.model import Profile
from tests.builders.profiles import python, synthetic_profile


def text(profile: Profile) -> str:
    stream = io.BytesIO()
    collapsed.write(profile, stream)
    return stream.getvalue().decode()


def test_every_line_is_process_root_to_leaf_and_count():
    lines = text(synthetic_profile()).splitlines()

    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == 2000
    assert {line.split(";")[0] for line in lines} == {"python3", "node", "api-server"}
    read = next(line for line in lines if "__read" in line)
    assert read.startswith("python3;_start;main;Py_RunMain;<module>;serve_forever;Server.handle;")
    assert read.rsplit(" ", 1)[0].endswith(
        ";__read;entry_SYSCALL_64_after_hwframe_[k];do_syscall_64_[k];ksys_read_[k];vfs_read_[k]"
    )


def test_names_without_symbols_are_file_and_address():
    assert "libc.so.6+0x91234 " in text(synthetic_profile())
    assert "node;[anon]+0x7f0012345678 " in text(synthetic_profile())


def test_what_is_read_is_written_the_same():
    once = text(synthetic_profile())

    assert text(collapsed.read(once.encode())) == once


@given(st.text(), st.text(st.characters(codec=None, categories=None)))
def test_no_name_breaks_the_line(process, function):
    profile = Profile()
    profile.add(Trace((python(function, "a.py", 3),)), Process(Pid(1), process), Thread(1), 3, 3)

    lines = text(profile).split("\n")

    assert len(lines) == 2
    assert lines[0].count(";") == 1
    assert lines[0].endswith(" 3")


@pytest.mark.parametrize("line", ["no count", "12", "a;b -3", "a;b 1.5", "a;b " + "9" * 40])
def test_a_line_without_a_count_is_refused_by_its_number(line):
    with pytest.raises(FormatError, match="line 2"):
        collapsed.read(f"a;b 1\n{line}\n".encode())


def test_empty_lines_and_windows_line_ends_are_read():
    assert collapsed.read(b"a;b 1\r\n\r\n\na;c 2").samples == 3
