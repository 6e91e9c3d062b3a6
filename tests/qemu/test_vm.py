# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The status of the guest's command is the result, whatever else happens on the console."""

import sys

import fetch
import pytest
import vm


def follow(tmp_path, program, timeout_s=20):
    lines = []
    command = [sys.executable, "-c", program]
    return vm.follow(command, timeout_s, tmp_path / "log", lines.append), lines


@pytest.mark.parametrize("status", [0, 5, 255])
def test_status_is_the_guests(tmp_path, status):
    program = f"print('one\\r'); print('half a linevm: status={status}'); print('bye')"

    assert follow(tmp_path, program) == (status, ["one", "half a line"])


def test_panic_is_97(tmp_path):
    status, lines = follow(tmp_path, "import sys; print('Kernel panic'); sys.exit(1)")

    assert status == vm.NO_STATUS
    assert "ended early" in lines[-1]


def test_hang_is_97_after_the_timeout(tmp_path):
    status, lines = follow(tmp_path, "import time; time.sleep(60)", timeout_s=0.2)

    assert status == vm.NO_STATUS
    assert "no end within" in lines[-1]


def test_command_is_quoted_for_the_guests_shell():
    script = vm.guest_script(["echo", "a b; $HOME"], {"X": "1 2"}).decode()

    assert "echo 'a b; $HOME' </dev/null; status=$?" in script
    assert "export X='1 2'" in script


def test_a_guest_of_another_kind_has_its_own_emulator_and_console(tmp_path):
    kernel = fetch.Kernel("7.3", tmp_path / "vmlinuz", None)
    options = vm.Options(machine=vm.ARM64, root=tmp_path)
    command = vm.qemu_command(kernel, tmp_path / "initramfs", options)

    assert command[:5] == ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"]
    assert any("console=ttyAMA0" in word for word in command)


def test_the_checkout_of_a_guest_with_another_root_lies_elsewhere():
    script = vm.guest_script(["true"], {}, vm.TREE).decode()

    assert f"cd {vm.TREE}" in script
