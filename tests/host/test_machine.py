# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What this machine is, from files."""

from otelagent.host.machine import machine_attributes, read_machine_id, read_os_name


def test_this_machine_has_a_name_and_nothing_is_empty():
    found = dict(machine_attributes())

    assert found["host.arch"] in {"amd64", "arm64"}
    assert found["os.type"] == "linux"
    assert all(found.values())


def test_files_that_are_missing_or_odd_say_nothing(tmp_path):
    assert (read_machine_id(str(tmp_path)), read_os_name(str(tmp_path))) == ("", "")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("uninitialized\n")

    assert read_machine_id(str(tmp_path)) == ""


def test_files_that_are_there_are_read(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "etc/os-release").write_text('NAME="X"\nPRETTY_NAME="X Linux 1"\n')

    assert read_machine_id(str(tmp_path)) == "0123456789abcdef0123456789abcdef"
    assert read_os_name(str(tmp_path)) == "X Linux 1"
