# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The initramfs is an archive that the kernel can read, with modules in a working order."""

import lzma

import initrd

MODULES_DEP = """kernel/fs/fuse/fuse.ko:
kernel/fs/fuse/virtiofs.ko.xz: kernel/fs/fuse/fuse.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/net/9p/9pnet.ko:
"""


def read_members(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Decode `newc` as the kernel's init/initramfs.c does."""
    members, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        mode, size, name_size = (int(data[at + o : at + o + 8], 16) for o in (14, 54, 94))
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        at = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return members
        members[name] = (mode, data[at : at + size])
        at = (at + size + 3) & ~3


def test_archive_gives_back_names_modes_and_contents():
    files = {"a": (0o100644, b"x"), "folder/name": (0o100755, b"12345"), "empty": (0o40755, b"")}

    assert read_members(initrd.archive(files)) == files


def test_each_module_comes_after_what_it_needs():
    order = initrd.load_order(
        initrd.parse_dependencies(MODULES_DEP), ("virtio_pci", "virtiofs", "built_in")
    )

    names = [initrd.module_name(path) for path in order]
    assert sorted(names) == ["fuse", "virtio_pci", "virtio_ring", "virtiofs"]
    assert names.index("fuse") < names.index("virtiofs")
    assert names.index("virtio_ring") < names.index("virtio_pci")


def test_compressed_module_is_unpacked(tmp_path):
    path = tmp_path / "fuse.ko.xz"
    path.write_bytes(lzma.compress(b"\x7fELF"))

    assert initrd.read_module(path) == b"\x7fELF"
