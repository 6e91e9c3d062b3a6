# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from otelagent.cli.debugdir import NOT_FOUND, DirectoryRenamer
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.model import Frame, FrameType, Pid, Process, Thread, Trace
from otelagent.profile.model import Profile
from otelagent.profile.renaming import rename_frames
from otelagent.symbolize.native import read_executable
from otelagent.unwind.file_id import file_id

SOURCE = """
__attribute__((noinline)) int work(int n) { return n * 3 + 1; }
int main(int argc, char **argv) { (void)argv; return work(argc); }
"""
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc")


@pytest.fixture(scope="module", params=["sha1", "none"])
def program(request, tmp_path_factory):
    """A program, its executable and the address of `work`, with and without a build id."""
    path = tmp_path_factory.mktemp("program") / "prog"
    source = path.with_suffix(".c")
    source.write_text(SOURCE)
    build_id = f"-Wl,--build-id={request.param}"
    subprocess.run(["cc", "-O1", build_id, "-o", path, source], check=True)
    data = BytesSource(path.read_bytes())
    elf = ElfFile(data)
    executable = read_executable(elf, file_id(data), "/opt/bin/prog")
    return path, executable, elf.find_symbols("work")["work"].value


def renamed(folder, frame: Frame) -> Frame:
    profile = Profile()
    profile.add(Trace((frame, frame)), Process(Pid(1), "p"), Thread(1), 5, 5)
    with DirectoryRenamer([folder]) as renamer:
        found = rename_frames(profile, renamer)
    assert found.samples == 5
    [trace] = found.traces
    return trace.frames[0]


def test_an_unnamed_frame_gets_the_functions_name(program):
    path, executable, address = program

    frame = renamed(path.parent, Frame(FrameType.NATIVE, address + 2, executable))

    assert frame.lines[0].function.name == "work"


def test_a_file_of_another_build_names_nothing(program, tmp_path):
    path, executable, address = program
    shutil.copy(path, tmp_path / "prog")
    other = replace(executable, build_id="ab" * 20, file_id=bytes(16))

    frame = renamed(tmp_path, Frame(FrameType.NATIVE, address, other))

    assert (frame.lines, frame.reason) == ((), NOT_FOUND)


def test_a_debug_file_is_known_by_its_build_id_only(program, tmp_path):
    """Without one nothing ties a debug file to its program, so it is not used."""
    path, executable, address = program
    if shutil.which("objcopy") is None:
        pytest.skip("needs objcopy")
    debug = tmp_path / "prog.debug"
    if executable.build_id:
        debug = (
            tmp_path / ".build-id" / executable.build_id[:2] / f"{executable.build_id[2:]}.debug"
        )
        debug.parent.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)

    frame = renamed(tmp_path, Frame(FrameType.NATIVE, address + 2, executable))

    assert [line.function.name for line in frame.lines] == ["work"] * bool(executable.build_id)


def test_named_frames_and_kernel_frames_stay(program, tmp_path):
    _path, executable, address = program
    frame = Frame(FrameType.KERNEL, address, executable)

    assert renamed(tmp_path, frame) == frame


def test_a_directory_of_rubbish_is_no_harm(program, tmp_path):
    _path, executable, address = program
    (tmp_path / "prog").write_bytes(os.urandom(100))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "prog").symlink_to("nowhere")

    assert renamed(tmp_path, Frame(FrameType.NATIVE, address, executable)).lines == ()
