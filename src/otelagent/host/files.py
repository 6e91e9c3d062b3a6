# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Opens files that a target controls, and reads them without being harmed.

A target may name a FIFO that blocks, a device that acts, a link that leaves its
root, a file that shrinks while it is read. So: the path is resolved inside the
target's own root, only regular files are taken, nothing blocks, nothing is
mapped.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, Self

from otelagent.errors import TargetError
from otelagent.host.procfs import other_thread

if TYPE_CHECKING:
    from types import TracebackType

_OPENAT2 = 437  # the same number on every architecture (Linux v5.6)
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_LOOK = os.O_PATH | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_libc = ctypes.CDLL(None, use_errno=True)


class FileSource:
    """An open regular file as a `Source` (formats.elf); owns the descriptor.

    The size is the one at opening: what is cut off later reads as missing.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.stat = os.fstat(fd)

    @property
    def size(self) -> int:
        """Length in bytes when it was opened."""
        return self.stat.st_size

    @property
    def key(self) -> tuple[int, int, int, int]:
        """What tells one state of one file from another: device, inode, mtime (ns), size."""
        s = self.stat
        return (s.st_dev, s.st_ino, s.st_mtime_ns, s.st_size)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes at `offset`; fewer at the end or when the disk fails."""
        if offset < 0 or offset >= self.size or size <= 0:
            return b""
        size = min(size, self.size - offset)
        try:
            data = os.pread(self.fd, size, offset)
            if len(data) == size or not data:  # one read hardly ever gives less
                return data
            pieces = [data]
            got = len(data)
            while got < size and (data := os.pread(self.fd, size - got, offset + got)):
                pieces.append(data)
                got += len(data)
        except OSError:
            return b""
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file; twice does no harm."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_file(path: str) -> FileSource:
    """Open a regular file that the user named; links are followed.

    Raises:
        TargetError: It cannot be opened, or is not a regular file.
    """
    return _checked(_look(path), path)


def open_target(root: str, path: str) -> FileSource:
    """Open `path` as a process with this root (`/proc/PID/root`) would, never leaving the root.

    Raises:
        TargetError: It cannot be opened, or is not a regular file.
    """
    try:
        root_fd = os.open(root, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError as err:
        raise TargetError(f"{root} cannot be opened: {os.strerror(err.errno or 0)}") from err
    try:
        fd = _openat2(root_fd, path, _LOOK, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(root_fd)
    return _checked(fd, path)


def open_mapped(pid: int, start: int, end: int, path: str, *, dev: int, inode: int) -> FileSource:
    """Open the very file that a process has mapped at [start, end).

    `/proc/PID/map_files` reaches deleted and replaced files too, but needs a
    capability; the path inside of the process's root is the way without it, if
    device and inode are still those of the mapping.

    Raises:
        TargetError: Neither way gives that file.
    """
    try:
        return _open_mapped(pid, start, end, path, dev=dev, inode=inode)
    except TargetError:
        other = other_thread(pid)
        if not other:
            raise
    return _open_mapped(other, start, end, path, dev=dev, inode=inode)


def _open_mapped(pid: int, start: int, end: int, path: str, *, dev: int, inode: int) -> FileSource:
    try:
        source = _checked(_look(f"/proc/{pid}/map_files/{start:x}-{end:x}"), path)
    except TargetError:
        source = open_target(f"/proc/{pid}/root", path.removesuffix(" (deleted)"))
    if inode and source.stat.st_ino != inode:
        source.close()
        raise TargetError(f"{path} was replaced by another file")
    # overlayfs and btrfs show another device in maps than fstat does: then the inode decides
    if dev and source.stat.st_dev != dev and path.endswith(" (deleted)"):
        source.close()
        raise TargetError(f"{path} was deleted")
    return source


def _look(path: str) -> int:
    """Get hold of a file without opening it: opening a device may already do something."""
    try:
        return os.open(path, _LOOK)
    except (OSError, ValueError) as err:
        reason = os.strerror(err.errno or 0) if isinstance(err, OSError) else str(err)
        raise TargetError(f"{path} cannot be opened: {reason}") from err


def _openat2(dir_fd: int, path: str, flags: int, resolve: int) -> int:
    """Call openat2(2), which the C library has no wrapper for."""
    how = ctypes.create_string_buffer(struct.pack("<QQQ", flags, 0, resolve), 24)
    for _ in range(3):  # EAGAIN: something was renamed meanwhile
        fd = int(_libc.syscall(_OPENAT2, dir_fd, os.fsencode(path), how, ctypes.c_size_t(24)))
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    raise TargetError(f"{path} cannot be opened: {os.strerror(ctypes.get_errno())}")


def _checked(look_fd: int, path: str) -> FileSource:
    """Open for reading what `look_fd` (taken over) holds, if it is a regular file."""
    try:
        if not stat.S_ISREG(os.fstat(look_fd).st_mode):
            raise TargetError(f"{path} is not a regular file")
        return FileSource(os.open(f"/proc/self/fd/{look_fd}", _READ))
    except OSError as err:
        raise TargetError(f"{path} cannot be opened: {os.strerror(err.errno or 0)}") from err
    finally:
        os.close(look_fd)
