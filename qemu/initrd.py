# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Make the initramfs: busybox, `init.sh`, and the modules that mounting the root needs.

It is an uncompressed cpio in the `newc` form: so no kernel needs a decompressor,
and at 2 MB nothing is gained by one.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

APPLETS = ("sh", "mount", "insmod", "mkdir", "cat", "cp", "switch_root")
WANTED_MODULES = ("virtio_pci", "virtiofs")
INIT = Path(__file__).with_name("init.sh")


def member(name: str, mode: int, data: bytes, number: int) -> bytes:
    """Encode one cpio member (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    head = header + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def archive(files: dict[str, tuple[int, bytes]]) -> bytes:
    """Encode name → (mode, content) as a cpio archive."""
    members = [
        member(name, mode, data, number)
        for number, (name, (mode, data)) in enumerate(files.items(), 1)
    ]
    return b"".join(members) + member("TRAILER!!!", 0, b"", 0)


def parse_dependencies(text: str) -> dict[str, list[str]]:
    """Parse `modules.dep`: path → paths of what it needs, nearest first."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {path: needs.split() for path, needs in pairs}


def module_name(path: str) -> str:
    """Turn `kernel/fs/fuse/virtiofs.ko.xz` into `virtiofs`."""
    return path.rsplit("/", 1)[-1].split(".ko", maxsplit=1)[0].replace("-", "_")


def load_order(dependencies: dict[str, list[str]], wanted: tuple[str, ...]) -> list[str]:
    """List the modules to load, each after what it needs; built-in ones are not there."""
    order: dict[str, None] = {}
    for path, needs in dependencies.items():
        if module_name(path) in wanted:
            # depmod writes all that is needed, so that loading from the end works.
            order.update(dict.fromkeys([*reversed(needs), path]))
    return list(order)


def read_dependencies(modules: Path) -> dict[str, list[str]]:
    """Read `modules.dep`, or let depmod make it in a folder of ours: packages have none."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "lib" / "modules"
        base.mkdir(parents=True)
        # A link: the cache stays as the packages left it.
        own = base / modules.name
        own.mkdir()
        for entry in modules.iterdir():
            (own / entry.name).symlink_to(entry)
        depmod = shutil.which("depmod", path="/usr/sbin:/sbin:/usr/bin:/bin") or "depmod"
        subprocess.run([depmod, "-b", folder, modules.name], check=True, capture_output=True)
        return parse_dependencies((own / "modules.dep").read_text())


def read_module(path: Path) -> bytes:
    """Read a module, decompressed."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        import zstandard  # noqa: PLC0415 (only some kernels need it)

        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def build(modules: Path | None, job: dict[str, bytes], busybox: Path) -> bytes:
    """Make the initramfs.

    Args:
        modules: The kernel's `lib/modules/RELEASE`; None if it needs no module.
        job: Files for `init.sh`, by name.
        busybox: A static one, of the kernel's kind of machine.
    """
    directory, program, plain = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
    names = ("bin", "dev", "proc", "sys", "root", "keep", "modules")
    files = dict.fromkeys(names, (directory, b""))
    files["bin/busybox"] = (program, busybox.read_bytes())
    for applet in APPLETS:
        files[f"bin/{applet}"] = (stat.S_IFLNK | 0o777, b"busybox")
    files["init"] = (program, INIT.read_bytes())
    order = load_order(read_dependencies(modules), WANTED_MODULES) if modules else []
    for path in order:
        files[f"modules/{module_name(path)}.ko"] = (plain, read_module(modules / path))
    files["modules/order"] = (plain, "".join(f"{module_name(p)}.ko\n" for p in order).encode())
    for name, data in job.items():
        files[name] = (plain, data)
    return archive(files)
