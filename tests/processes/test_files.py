# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import mmap
import os
from pathlib import Path

from otelagent.formats.proc_maps import MappedRange
from otelagent.processes.files import look_mapped


def test_a_mapped_file_is_looked_at_and_not_what_took_its_place(tmp_path):
    path = tmp_path / "library"
    path.write_bytes(bytes(5000))
    status = path.stat()
    stamp = (status.st_size, status.st_mtime_ns)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        (span,) = [
            line.split()[0]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if line.endswith(str(path))
        ]
        start, end = (int(word, 16) for word in span.split("-"))
        major, minor = os.major(status.st_dev), os.minor(status.st_dev)
        mapped = MappedRange(start, end, 0, major, minor, status.st_ino, str(path))

        assert look_mapped(os.getpid(), mapped) == stamp
        (tmp_path / "other").write_bytes(b"another")
        (tmp_path / "other").rename(path)
        assert look_mapped(os.getpid(), mapped) in {stamp, None}  # whoever may see map_files
    assert look_mapped(os.getpid(), mapped) is None
