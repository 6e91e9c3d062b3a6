# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Open, configure, load and attach one BPF object.

    object = BpfObject.open(object_path("calibrate"))
    object.set_variable("config", bytes_of_struct)
    object.load()
    link = object.program("on_tick").attach_raw_tracepoint("sched_process_fork")

An object is used by one thread at a time. libbpf raises RLIMIT_MEMLOCK itself
where maps still count against it (before Linux 5.11).
"""

from __future__ import annotations

import errno
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from otelagent._native import ffi, lib
from otelagent.bpf.reasons import describe, hint_for, is_locked_down, read_lockdown
from otelagent.errors import AttachFailed, LoadFailed, MissingFeature, NotPermitted

LOG_STATISTICS = 4
"""What verifying each program took (BPF_LOG_STATS, include/linux/bpf_verifier.h)."""
_OBJECTS = Path(__file__).parent / "objects"


def object_path(name: str) -> Path:
    """Find the shipped object `name` for this machine.

    Raises:
        MissingFeature: The package holds none for this kind of machine.
    """
    path = _OBJECTS / f"{name}.{platform.machine()}.bpf.o"
    if not path.exists():
        raise MissingFeature(
            f"no BPF object {name} for {platform.machine()}",
            hint="otelagent runs on x86-64 and arm64; from source, run `python build.py`",
        )
    return path


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What a map of a loaded object is; `fd` is the object's and closed with it."""

    name: str
    fd: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class Link:
    """An attached program; closing it detaches. Closing twice does nothing."""

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 (cdata)
        self._handle = handle

    def close(self) -> None:
        """Detach the program."""
        if self._handle is not None:
            lib.oa_link_close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Program:
    """A program of an object."""

    def __init__(self, owner: BpfObject, name: str) -> None:
        self._owner = owner
        self.name = name

    @property
    def fd(self) -> int:
        """The loaded program's file descriptor (the object's: closed with it)."""
        fd = int(lib.oa_object_program_fd(self._owner.handle, self.name.encode()))
        if fd < 0:
            raise LoadFailed(f"BPF program {self.name} is not loaded: {describe(fd)}")
        return fd

    def attach_perf_event(self, event_fd: int) -> Link:
        """Run at each overflow of a perf event, and enable it. The link owns `event_fd`."""
        return self._attach("perf event", lib.oa_attach_perf_event, event_fd)

    def attach_raw_tracepoint(self, tracepoint: str) -> Link:
        """Run at a raw tracepoint (`sched_process_fork`); needs no tracefs."""
        return self._attach(
            f"raw tracepoint {tracepoint}", lib.oa_attach_raw_tracepoint, tracepoint.encode()
        )

    def attach(self) -> Link:
        """Run where the program's section says (`fentry/NAME`)."""
        return self._attach("its hook", lib.oa_attach)

    def attach_tracepoint(self, category: str, tracepoint: str) -> Link:
        """Run at a tracepoint found in tracefs."""
        hook = f"tracepoint {category}:{tracepoint}"
        attach = lib.oa_attach_tracepoint
        return self._attach(hook, attach, category.encode(), tracepoint.encode())

    def attach_uprobe(
        self, path: Path, file_offset: int, *, pid: int = -1, is_return: bool = False
    ) -> Link:
        """Run where `path` at `file_offset` is executed; `pid` -1 means by any process."""
        hook = f"uprobe {path}+{file_offset:#x}"
        where = (pid, os.fsencode(path), file_offset, is_return)
        return self._attach(hook, lib.oa_attach_uprobe, *where)

    def _attach(self, hook: str, attach: Any, *where: object) -> Link:  # noqa: ANN401 (cdata)
        error = ffi.new("s32 *")
        handle = attach(self._owner.handle, self.name.encode(), *where, error)
        if handle:
            return Link(handle)
        message = f"cannot attach {self.name} to {hook}: {describe(error[0])}"
        raise AttachFailed(message, hint=hint_for(error[0]))


class BpfObject:
    """One BPF object file, opened; its maps and programs exist after `load`."""

    def __init__(self, handle: Any, path: Path) -> None:  # noqa: ANN401 (cdata)
        self.handle = handle
        self.path = path

    @classmethod
    def open(cls, path: Path) -> BpfObject:
        """Read an object file; the kernel is not touched yet.

        Raises:
            LoadFailed: It is not there, or no BPF object.
        """
        error = ffi.new("s32 *")
        opened = cls(lib.oa_object_open(os.fsencode(path), error), path)
        if error[0]:
            from otelagent.bpf.verifier import parse_log  # noqa: PLC0415 (only on failure)

            words = "\n".join(("", *parse_log(opened.log).lines))
            opened.close()
            raise LoadFailed(f"cannot open BPF object {path}: {describe(error[0])}{words}")
        return opened

    @property
    def log(self) -> str:
        """What libbpf and the verifier said so far (at most 256 KiB)."""
        return str(ffi.string(lib.oa_object_log(self.handle)).decode(errors="replace"))

    def want_log(self, level: int) -> None:
        """Let the log tell, after `load`, what the verifier says to each program.

        Args:
            level: 1: a summary, 2: all, or `LOG_STATISTICS`.
        """
        lib.oa_object_want_log(self.handle, level)

    def set_variable(self, name: str, value: bytes) -> None:
        """Set a global variable before the object is loaded; `value` has exactly its size.

        Raises:
            LoadFailed: There is no such variable, or it has another size.
        """
        size = len(value)
        error = lib.oa_object_set_variable(self.handle, name.encode(), ffi.from_buffer(value), size)
        if error == -errno.EMSGSIZE:
            raise LoadFailed(f"{self.path.name}: variable {name} does not have {size} bytes")
        self._check(error, f"variable {name}")

    def set_max_entries(self, map_name: str, entries: int) -> None:
        """Size a map before it is made."""
        error = lib.oa_object_set_max_entries(self.handle, map_name.encode(), entries)
        self._check(error, f"map {map_name}")

    def use_map(self, name: str, owner: BpfObject) -> None:
        """Share a map with a loaded object that has one of that name; before `load`."""
        fd = owner.map_info(name).fd
        self._check(lib.oa_object_use_map(self.handle, name.encode(), fd), f"map {name}")

    def set_autoload(self, program: str, on: bool) -> None:
        """Say whether a program is loaded."""
        error = lib.oa_object_set_autoload(self.handle, program.encode(), on)
        self._check(error, f"program {program}")

    def _check(self, error: int, what: str) -> None:
        if error:
            raise LoadFailed(f"{self.path.name}: {what}: {describe(error)}")

    def load(self) -> None:
        """Make the maps and load the programs.

        Raises:
            NotPermitted: A capability is missing.
            LoadFailed: The kernel refused a program or map; the message ends
                with the decisive lines of the verifier's log.
        """
        error = lib.oa_object_load(self.handle)
        if not error:
            return
        from otelagent.bpf.verifier import parse_log  # noqa: PLC0415 (only on failure)

        told = parse_log(self.log)
        what = f"program {told.program}" if told.program else f"object {self.path.name}"
        if told.map_name and not told.program:
            what = f"map {told.map_name}"
        message = f"the kernel refused BPF {what}: {describe(error)}"
        lockdown = read_lockdown()
        if error == -errno.EINVAL and is_locked_down(lockdown):
            # The verifier does not know helpers that read memory then (bpf_tracing_func_proto).
            message = f"kernel lockdown forbids BPF to read memory ({what} was refused)"
            raise LoadFailed(message, hint=hint_for(-errno.EPERM, lockdown))
        if error == -errno.EPERM:
            raise NotPermitted(message, hint=hint_for(error))
        raise LoadFailed("\n    ".join((message, *told.lines)), hint=hint_for(error))

    def program(self, name: str) -> Program:
        """Get a program by its C name."""
        return Program(self, name)

    def programs(self) -> list[str]:
        """List the programs' names."""
        return self._names(lib.oa_object_program_name)

    def maps(self) -> list[str]:
        """List the maps' names; a section's map is called like `calibrat.rodata`."""
        return self._names(lib.oa_object_map_name)

    def _names(self, name_at: Any) -> list[str]:  # noqa: ANN401 (cdata)
        names: list[str] = []
        while name := name_at(self.handle, len(names)):
            names.append(ffi.string(name).decode())
        return names

    def map_info(self, name: str) -> MapInfo:
        """Describe a map; `.bss`, `.data` and `.rodata` are maps, too.

        Raises:
            LoadFailed: There is no such map.
        """
        info = ffi.new("struct oa_map_info *")
        error = lib.oa_object_map_info(self.handle, name.encode(), info)
        self._check(error, f"map {name}")
        sizes = (info.key_size, info.value_size, info.max_entries, info.flags)
        return MapInfo(name, info.fd, info.type, *sizes)

    def struct_size(self, name: str) -> int:
        """Bytes of a struct in the object's BTF.

        Raises:
            LoadFailed: The BTF has no such struct: the object does not use it.
        """
        size = int(lib.oa_object_struct_size(self.handle, name.encode()))
        self._check(min(size, 0), f"struct {name}")
        return size

    def close(self) -> None:
        """Unload everything that no link, program table or other process holds."""
        if self.handle is not None:
            lib.oa_object_close(self.handle)
            self.handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@cache
def possible_cpus() -> int:
    """Count the CPUs that the kernel may ever bring online: rows of per-CPU maps."""
    return int(lib.oa_possible_cpus())


def has_core_relocations(path: Path) -> bool:
    """Tell whether an object carries CO-RE relocations, which need the kernel's BTF."""
    found = lib.oa_object_core_relocations(os.fsencode(path))
    if found < 0:
        raise LoadFailed(f"{path}: {describe(found)}")
    return bool(found)
