# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The `.deb` on a Debian that systemd runs, booted in a guest (root, long).

`claims.sh` is what happens there. The guest has Debian's kernel, and a root of its own that it
may write.
"""

import shutil
import subprocess
from pathlib import Path

import fetch
import pytest
import vm

HERE = Path(__file__).parent
KERNEL = "6.1"
"""That of Debian 12."""
TIMEOUT_S = 3600
# The folders that all guests have as memory are on the disk here, and systemd is the first process.
INIT = "mount -o remount,rw /; umount /tmp /var/tmp /var/cache; exec /sbin/init </dev/console"
UNIT = """\
[Service]
Type=simple
ExecStart=/bin/sh -c 'sh /packages/claims.sh; echo "vm: status=0"; exec /run/busybox poweroff -f'
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
"""


@pytest.fixture
def machine(with_systemd, packages, tmp_path):
    subprocess.run(["tar", "-xf", with_systemd, "-C", tmp_path, "--exclude=./dev/*"], check=True)
    # What every guest of qemu/ has: its scratch folders, and the place of the checkout.
    for name in ("packages", "srv/otelagent", "dev"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", tmp_path / "bin")
    shutil.copy(HERE / "claims.sh", tmp_path / "packages")
    for name, path in zip(("old", "new"), packages("deb"), strict=True):
        shutil.copy(path, tmp_path / "packages" / f"{name}.deb")
    units = tmp_path / "etc/systemd/system"
    (units / "claims.service").write_text(UNIT)
    (units / "multi-user.target.wants/claims.service").symlink_to("../claims.service")
    (tmp_path / "etc/fstab").write_text("")
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_systemd_starts_it_watches_over_it_and_nothing_of_it_is_left(machine):
    lines = []

    def show(line):
        print(line, flush=True)
        lines.append(line)

    options = vm.Options(
        root=machine, timeout_s=TIMEOUT_S, append="systemd.mask=serial-getty@ttyS0.service"
    )
    status = vm.run(fetch.fetch(KERNEL), ["exec", "sh", "-c", INIT], options, show)

    assert status == 0
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert sum(line.startswith("ok ") for line in lines) > 40
