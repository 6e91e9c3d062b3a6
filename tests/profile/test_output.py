# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from otelagent.errors import OutputError
from otelagent.profile import output
from otelagent.profile.output import check_output, default_name, write_output


def hello(stream) -> None:
    stream.write(b"hello")


def fail_at_once(stream) -> None:
    """Fail the first time, as a full disk does; the second time is elsewhere."""
    if not fail_at_once.failed:
        fail_at_once.failed = True
        stream.write(b"he")
        raise OSError(28, "No space left on device")
    stream.write(b"hello")


@pytest.fixture
def full_disk():
    fail_at_once.failed = False
    return fail_at_once


def test_a_new_file_appears_whole_and_alone(tmp_path):
    path = tmp_path / "a.html"

    write_output(str(path), hello)

    assert path.read_bytes() == b"hello"
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]


def test_the_mode_of_a_new_file_obeys_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_output(str(tmp_path / "a"), hello)
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_file_that_is_there_stays_without_force(tmp_path):
    path = tmp_path / "a.html"
    path.write_bytes(b"mine")

    with pytest.raises(OutputError, match="exists") as caught:
        write_output(str(path), hello)

    assert "--force" in caught.value.hint
    assert path.read_bytes() == b"mine"
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]


def test_force_replaces_a_file_and_keeps_its_mode(tmp_path):
    path = tmp_path / "a.html"
    path.write_bytes(b"mine")
    path.chmod(0o604)

    write_output(str(path), hello, force=True)

    assert path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_file_made_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "a.html"

    def slow(stream) -> None:
        path.write_bytes(b"theirs")
        stream.write(b"hello")

    with pytest.raises(OutputError, match="exists"):
        write_output(str(path), slow)

    assert path.read_bytes() == b"theirs"


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()

    write_output(str(path), hello)

    reader.join(5)
    assert got == [b"hello"]
    assert path.is_fifo()


def test_a_device_is_written_into_without_force():
    check_output("/dev/null")
    write_output("/dev/null", hello)

    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_link_to_a_device_is_followed_and_stays(tmp_path):
    path = tmp_path / "null"
    path.symlink_to("/dev/null")

    write_output(str(path), hello, force=True)

    assert path.is_symlink()


def test_a_link_to_a_file_is_not_written_through(tmp_path):
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")

    for name in ("link", "dangling"):
        with pytest.raises(OutputError, match="exists"):
            write_output(str(tmp_path / name), hello)
    write_output(str(tmp_path / "link"), hello, force=True)

    assert (tmp_path / "target").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_dash_is_standard_output(name, capfdbinary):
    check_output(name)
    write_output(name, hello)

    assert capfdbinary.readouterr().out == b"hello"


def test_a_full_disk_keeps_the_profile_elsewhere(tmp_path, full_disk, monkeypatch):
    rescue = tmp_path / "rescue"
    rescue.mkdir()
    monkeypatch.setattr(output.tempfile, "gettempdir", lambda: str(rescue))

    with pytest.raises(OutputError, match=r"No space left.*kept in") as caught:
        write_output(str(tmp_path / "a.pb.gz"), full_disk, keep=True)

    [kept] = rescue.iterdir()
    assert str(kept) in str(caught.value)
    assert kept.read_bytes() == b"hello"
    assert kept.name.endswith(".pb.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["rescue"]


def test_a_full_device_is_an_error_with_its_name():
    with pytest.raises(OutputError, match=r"/dev/full: No space left"):
        write_output("/dev/full", hello)


def test_a_directory_or_a_missing_one_is_refused_before_the_work(tmp_path):
    with pytest.raises(OutputError, match="is a directory"):
        check_output(str(tmp_path), force=True)
    with pytest.raises(OutputError, match="is not a directory"):
        check_output(str(tmp_path / "none" / "a.html"))


def test_under_sudo_a_new_file_belongs_to_the_caller(tmp_path, monkeypatch):
    owners = []
    monkeypatch.setattr(output.os, "geteuid", lambda: 0)
    monkeypatch.setattr(output.os, "fchown", lambda _fd, user, group: owners.append((user, group)))
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1001")

    write_output(str(tmp_path / "a"), hello)

    assert owners == [(1000, 1001)]


def test_the_default_name_has_host_and_time(monkeypatch):
    monkeypatch.setattr(output.os, "uname", lambda: SimpleNamespace(nodename="a/b"))

    name = default_name()

    assert name.startswith("otelagent-a-b-2")
    assert name.endswith("Z.html")


def test_a_reader_that_has_gone_is_no_error_of_ours(monkeypatch):
    def gone(_stream) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_output("-", gone)


@pytest.mark.parametrize("arguments", [(), ("-f", "collapsed")])
def test_a_full_standard_output_is_told_in_one_line(arguments, tmp_path):
    path = tmp_path / "a.folded"
    path.write_text("p;f 3\n")
    code = "import sys; from otelagent.cli.main import main; sys.exit(main())"
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [sys.executable, "-c", code, "report", path, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert result.returncode == 1
    assert "No space left" in result.stderr
    assert "internal" not in result.stderr
    assert "Traceback" not in result.stderr
