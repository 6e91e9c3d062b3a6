# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Each struct of `ebpf/oa_abi.h` has one layout: for the C compiler, for cffi and for BPF."""

import ctypes
import re
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import build
from otelagent._native import ffi

STRUCTS = re.findall(r"^struct (oa_\w+) \{", (build.EBPF / "oa_abi.h").read_text(), re.MULTILINE)
OBJECTS = sorted(build.OBJECTS.glob("*.bpf.o"))
PROFILER = build.EBPF / "profiler.bpf.c"
BTF_KIND_STRUCT = 4  # include/uapi/linux/btf.h


class Btf:
    """Sizes of the structs that a BPF object's own BTF knows, as libbpf resolves them."""

    def __init__(self, path: Path) -> None:
        self._lib = ctypes.CDLL("libbpf.so.1")
        self._lib.btf__parse_elf.restype = ctypes.c_void_p
        self._lib.btf__resolve_size.restype = ctypes.c_int64
        self._btf = ctypes.c_void_p(self._lib.btf__parse_elf(str(path).encode(), None))

    def size(self, name: str) -> int | None:
        kind = ctypes.c_uint32(BTF_KIND_STRUCT)
        found = self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind)
        return self._lib.btf__resolve_size(self._btf, found) if found > 0 else None

    def close(self) -> None:
        self._lib.btf__free(self._btf)


def read_sizes(path: Path) -> dict[str, int]:
    btf = Btf(path)
    sizes = {name: btf.size(name) for name in STRUCTS}
    btf.close()
    return {name: size for name, size in sizes.items() if size is not None}


def core_relocations_bytes(path: Path) -> int:
    """Read `core_relo_len` of `.BTF.ext`; 0 where there is no such section or field."""
    with path.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(".BTF.ext")
        data = section.data() if section else b""
    header_bytes = struct.unpack_from("<I", data, 4)[0] if data else 0
    return struct.unpack_from("<I", data, 28)[0] if header_bytes >= 32 else 0


def test_every_source_was_compiled_for_every_architecture():
    """Without this, the proofs below would hold for want of an object."""
    names = {source.name.removesuffix(".bpf.c") for source in build.EBPF.glob("*.bpf.c")}

    expected = {f"{name}.{machine}.bpf.o" for name in names for machine in build.BPF_ARCHES}

    assert expected <= {path.name for path in OBJECTS}


@pytest.mark.parametrize("name", STRUCTS)
def test_cffi_lays_the_struct_out_as_the_compiler_does(name):
    """Cffi compares at first use and raises `ffi.error` naming the field."""
    fields = ffi.typeof(f"struct {name}").fields

    end = max(field.offset + ffi.sizeof(field.type) for _, field in fields)

    assert end == ffi.sizeof(f"struct {name}"), "padding at the end must be written out"


@pytest.mark.parametrize("name", STRUCTS)
def test_padding_between_fields_is_written_out(name):
    """The compiler's own holes carry stack bytes of the kernel to user space."""
    at = 0
    for field_name, field in ffi.typeof(f"struct {name}").fields:
        assert at == field.offset, f"hole before {field_name}"
        at += ffi.sizeof(field.type)


def test_bpf_and_python_agree_on_every_size():
    found = {path.name: read_sizes(path) for path in OBJECTS}

    expected = {
        path: {name: ffi.sizeof(f"struct {name}") for name in sizes}
        for path, sizes in found.items()
    }

    assert expected == found


def test_no_struct_is_dead():
    """A struct that no BPF object's BTF knows crosses no border."""
    for machine in build.BPF_ARCHES if PROFILER.exists() else []:
        objects = [path for path in OBJECTS if path.name.endswith(f".{machine}.bpf.o")]

        used = {name for path in objects for name in read_sizes(path)}

        assert [name for name in STRUCTS if name not in used] == []


def test_profiler_needs_no_btf_of_the_kernel():
    """One CO-RE relocation anywhere makes the whole object fail on a kernel without BTF."""
    objects = [path for path in OBJECTS if path.name.startswith("profiler.")]

    assert [path.name for path in objects if core_relocations_bytes(path)] == []
