# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from otelagent.formats.elf import ElfFile
from otelagent.host.files import open_file
from otelagent.model import Executable, FileId, Frame, FrameType
from otelagent.symbolize.native import read_executable
from otelagent.symbolize.renamer import FileRenamer
from otelagent.unwind.file_id import file_id
from tests.symbolize.builds import compile_c, nm_ranges


def frame_in(path, executable=None, symbol="outer"):
    start = next(r[0] for r in nm_ranges(path) if r[2] == symbol)
    if executable is None:
        with open_file(str(path)) as source:
            executable = read_executable(ElfFile(source), file_id(source), "/opt/other/name")
    return Frame(FrameType.NATIVE, start + 1, executable)


def test_frame_is_named_by_a_file_with_its_build_id(tmp_path):
    path = compile_c(tmp_path / "a-program", "-O2", "-g", "-Wl,--build-id")
    renamer = FileRenamer([tmp_path], file_id)

    named = renamer.rename(frame_in(path))

    assert named.lines[-1].function.name == "outer"
    assert named.lines[-1].line > 0


def test_frame_without_build_id_is_named_by_its_file_id_only(tmp_path):
    folder = tmp_path / "opt" / "other"
    folder.mkdir(parents=True)
    path = compile_c(folder / "name", "-O2", "-Wl,--build-id=none")
    frame = frame_in(path)
    stranger = Executable(FileId(b"x" * 16), "/opt/other/name")
    renamer = FileRenamer([tmp_path], file_id)

    assert renamer.rename(frame).lines[-1].function.name == "outer"
    other = frame_in(path, stranger)
    assert renamer.rename(other) is other


def test_unknown_frames_stay_as_they_are(tmp_path):
    renamer = FileRenamer([tmp_path], file_id)
    frames = [
        Frame(FrameType.PYTHON),
        Frame(FrameType.NATIVE, 5),
        Frame(FrameType.NATIVE, 5, Executable(FileId(b"y" * 16), "/none", build_id="abcdef")),
    ]

    assert all(renamer.rename(frame) is frame for frame in frames)
