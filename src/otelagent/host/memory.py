# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of a live process.

Read with `process_vm_readv`; where that is missing or denied, through
`/proc/PID/mem`, which some sandboxes allow alone. The target may change or end
at any time: what is read is a claim, not a fact.
"""

from __future__ import annotations

import errno
import os

from otelagent._native import ffi, lib
from otelagent.errors import MemoryFault, NotPermitted, ProcessGone
from otelagent.host.procfs import other_thread

MAX_READ_BYTES = 16 << 20
_NO_READV = (errno.ENOSYS, errno.EPERM)


class ProcessMemory:
    """Memory of one process (`protocols.Memory`); used by one thread at a time.

    A pid may be given to another process: who keeps this object must drop it
    when the process ends.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._mem: int | None = None

    @property
    def file(self) -> int | None:
        """Descriptor of `/proc/PID/mem` where only that can be read; None if not, or not tried."""
        return self._mem

    def read(self, addr: int, size: int) -> bytes:
        """Read exactly `size` bytes at `addr`.

        Raises:
            MemoryFault: Not all of it is mapped, or it is more than 16 MiB.
            ProcessGone: The process ended.
            NotPermitted: We may not read this process.
        """
        if size == 0:
            return b""
        if not 0 < size <= MAX_READ_BYTES or not 0 <= addr < 1 << 64 or addr + size > 1 << 64:
            raise MemoryFault(addr, size)
        if self._mem is not None:
            return self._read_file(addr, size)
        buffer = ffi.new("char[]", size)
        error = -lib.oa_memory_read(self.pid, addr, buffer, size)
        if error == errno.ESRCH and (other := other_thread(self.pid)):
            self.pid = other  # the first thread has ended, the process has not
            error = -lib.oa_memory_read(other, addr, buffer, size)
        if error in _NO_READV:
            return self._read_file(addr, size)
        if error == errno.ESRCH:
            raise ProcessGone(f"process {self.pid} is gone")
        if error:
            raise MemoryFault(addr, size)
        return bytes(ffi.buffer(buffer, size))

    def _read_file(self, addr: int, size: int) -> bytes:
        try:
            if self._mem is None:
                self._mem = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._mem, size, addr) if addr < 1 << 63 else b""
        except PermissionError as err:
            hint = "run as root, or grant CAP_SYS_PTRACE"
            raise NotPermitted(f"process {self.pid} may not be read", hint=hint) from err
        except (FileNotFoundError, ProcessLookupError) as err:
            raise ProcessGone(f"process {self.pid} is gone") from err
        except OSError as err:
            raise MemoryFault(addr, size) from err
        if not data and not os.path.exists(f"/proc/{self.pid}"):  # noqa: PTH110 (hot)
            raise ProcessGone(f"process {self.pid} is gone")
        if len(data) != size:
            raise MemoryFault(addr, size)
        return data

    def close(self) -> None:
        """Give the file back, if one was opened."""
        if self._mem is not None:
            os.close(self._mem)
            self._mem = None

    def __del__(self) -> None:
        self.close()
