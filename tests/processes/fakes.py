# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""BPF maps as dicts of bytes, and a machine with processes that say what they are told to."""

import struct
from types import SimpleNamespace

from otelagent._native import ffi
from otelagent.abi._generated import Limit
from otelagent.abi.codec import Generation
from otelagent.bpf.sideband import Event, EventKind
from otelagent.errors import KernelError, TargetError
from otelagent.formats.elf import BytesSource
from otelagent.formats.proc_maps import MappedRange
from otelagent.processes.executables import Executables
from otelagent.processes.mapped import MappedFiles, Opened
from otelagent.processes.rowstore import RowStore
from otelagent.processes.spaces import Spaces
from otelagent.processes.table import ProcessTable
from otelagent.unwind.rows import RowTable

_KEY = struct.Struct("=I")
_SPACE_ADDR = struct.Struct(">IQ")
_MAPPING = struct.Struct("=QQQQII")


class FakeMap(dict):
    """A hash map or trie: as `HashMap`, in a dict; full at `most` entries."""

    def __init__(self, key_size, value_size, most=1 << 30):
        super().__init__()
        self.info = SimpleNamespace(key_size=key_size, value_size=value_size)
        self.most = most

    def __setitem__(self, key, value):
        assert len(key) == self.info.key_size
        assert len(value) == self.info.value_size
        if key not in self and len(self) >= self.most:
            raise KernelError("cannot write to BPF map: it is full")
        super().__setitem__(bytes(key), bytes(value))

    def update_many(self, keys, values, flags=0):
        size, width = self.info.key_size, self.info.value_size
        assert len(keys) // size == len(values) // width
        for at in range(len(keys) // size):
            self[keys[at * size : (at + 1) * size]] = values[at * width : (at + 1) * width]

    def delete(self, key):
        return self.pop(bytes(key), None) is not None

    def delete_many(self, keys):
        size = self.info.key_size
        return sum(self.delete(keys[at : at + size]) for at in range(0, len(keys), size))


class FakeTrie(FakeMap):
    """The map `mappings`, with the kernel's look-up by longest prefix."""

    def __init__(self, most=1 << 30):
        super().__init__(16, 40, most)

    def find(self, space, addr):
        """What BPF finds: (start, end, bias, file key, unwinder, flags), or None."""
        for bits in range(64, -1, -1):
            masked = addr >> (64 - bits) << (64 - bits)
            value = self.get(_KEY.pack(32 + bits) + _SPACE_ADDR.pack(space, masked))
            if value:
                return _MAPPING.unpack(value)
        return None

    def ranges(self, space):
        """The ranges that it covers, from the keys alone: neighbours joined."""
        found = []
        for key in self:
            bits = _KEY.unpack_from(key)[0] - 32
            number, addr = _SPACE_ADDR.unpack_from(key, 4)
            if number == space:
                found.append((addr, addr + (1 << (64 - bits))))
        joined = []
        for start, end in sorted(found):
            if joined and joined[-1][1] == start:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        return joined


class FakeMemory:
    """Memory of an array, as `Mapped`."""

    def __init__(self, size):
        self._data = ffi.new("char[]", size)
        self.pointer = self._data
        self.bytes = size
        self.buffer = memoryview(ffi.buffer(self._data))

    def close(self):
        self.buffer.release()


class FakeChunks:
    """The map of maps `rows`."""

    def __init__(self):
        self.made = []

    def create_inner(self, index, value_size, entries):
        assert index == len(self.made)
        memory = FakeMemory(value_size * entries)
        self.made.append(memory)
        return SimpleNamespace(mmap=lambda: memory, close=lambda: None)


def pages_map(most=1 << 30):
    return FakeMap(16, 16, most)


def rule(number):
    """A `struct oa_rule` that differs from others by its offset."""
    value = ffi.new("struct oa_rule *")
    value.cfa_offset = number
    return bytes(ffi.buffer(value))


def table_of(*counts, rules=(8,), first_page=0):
    """Rows with so many in each page; row n of the file is at n & 0xFFFF, with a rule in turn."""
    rows, pages = bytearray(), bytearray()
    for page, count in enumerate(counts, first_page):
        pages += struct.pack("=III", page, len(rows) // 4, count)
        for at in range(count):
            rows += struct.pack("=I", (at % len(rules)) << 16 | at)
    return RowTable(bytes(pages), bytes(rows), b"".join(map(rule, rules)))


def elf(tag, *, vaddr=0x1000, offset=0x1000, size=0x4000):
    """An ELF file with one segment of code; `tag` makes its content its own."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01" + bytes(9), 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, offset, vaddr, 0, size, size, 0x1000)
    data = header + segment + tag.encode()
    return data.ljust(offset + size, b"\0")


class FakeFile(BytesSource):
    """An open file; `closed` tells that it was given back."""

    def __init__(self, data):
        super().__init__(data)
        self.closed = False

    def close(self):
        self.closed = True


class Machine:
    """Files and processes; `table` is the process table that lives on it."""

    def __init__(self, **options):
        self.files = {}
        self.maps = {}
        self.gone = []
        self.ended = []
        self.opened = []
        self.scans = 0
        self.loads = 0
        self.now_ns = 0
        self.trie = FakeTrie(options.pop("most_mappings", 1 << 30))
        self.processes = FakeMap(4, 24)
        self.pages = pages_map(options.pop("most_pages", 1 << 30))
        self.rules = FakeMemory(32 * Limit.MAX_RULES)
        self.store = RowStore(FakeChunks(), self.rules, self.pages, lambda: self.now_ns)
        self.executables = Executables(self.store, self._load_rows, lambda _elf: None)
        self.taken = []
        self.spaces = Spaces(self.trie, self.executables, lambda: self.taken.append(self.now_ns))
        self.table = ProcessTable(
            self.processes,
            self.spaces,
            MappedFiles(self.executables, self._open, lambda: elf("vdso")),
            self._read_maps,
            on_gone=self.gone.append,
            on_end=self.ended.append,
            **options,
        )

    def _load_rows(self, source, elf_file):
        self.loads += 1
        return table_of(3)

    def _open(self, pid, mapped):
        data = self.files.get(mapped.inode)
        if data is None:
            raise TargetError(f"{mapped.path} cannot be opened: No such file")
        source = FakeFile(data)
        self.opened.append(source)
        return Opened(source, (len(data), 0))

    def _read_maps(self, pid):
        self.scans += 1
        found = self.maps.get(pid)
        if isinstance(found, Exception):
            raise found
        return list(found or ())

    def file(self, inode, path):
        """Put a file on the disk; its mapping at an address is `mapped(inode, start)`."""
        self.files[inode] = elf(path)
        return path

    def space(self, pid):
        """Number of the space that BPF has for a pid; 0: the pid is unknown to BPF."""
        value = self.processes.get(_KEY.pack(pid))
        return struct.unpack("=QIIII", value)[3] if value else 0

    def found(self, pid, addr):
        """What BPF finds for an address of a process."""
        return self.trie.find(self.space(pid), addr)


def mapped(start, size=0x4000, *, inode=1, path="/bin/a", offset=0x1000):
    return MappedRange(start, start + size, offset, 8, 1, inode, path)


def event(kind, pid, time_ns, **fields):
    zero = dict.fromkeys(Event._fields, 0) | {"name": b"", "tid": pid}
    return Event(**zero | {"kind": kind, "pid": pid, "time_ns": time_ns} | fields)


def mmap_event(pid, time_ns, start, size=0x4000, *, inode=1, path=b"/bin/a", offset=0x1000):
    where = {"addr": start, "length": size, "page_offset": offset, "inode": inode, "name": path}
    return event(EventKind.MMAP, pid, time_ns, major=8, minor=1, **where)


def fork_event(parent, child, time_ns):
    return event(EventKind.FORK, child, time_ns, ppid=parent)


def exec_event(pid, time_ns):
    return event(EventKind.EXEC, pid, time_ns)


def exit_event(pid, time_ns):
    return event(EventKind.EXIT, pid, time_ns)


def lost_event(time_ns):
    return event(EventKind.LOST, 0, time_ns, length=7)


def generation(pid, start_ns=1000, exec_id=1):
    return Generation(start_ns, exec_id, pid)


def named(elf, interpreter):
    """What is known of a file that is an interpreter, as far as its facts need it."""
    return SimpleNamespace(elf=elf, interpreter=interpreter, key=1)
