# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded processes as core files: the stacks of their cases; an end in time if memory lies."""

import contextlib
import os
import random
import re
import time

import pytest

from otelagent.coredump.case import SNAPSHOT, read_expected
from otelagent.coredump.replay import expected
from otelagent.dump.stacks import ImageUnwinder
from otelagent.errors import FormatError, TargetError
from otelagent.host.core import CoreImage
from otelagent.host.files import FileSource
from otelagent.namers import Namers
from otelagent.unwind.extract import extract
from tests.builders.recorded import write_core
from tests.fuzz.parsers import NO_FILES, mutate
from tests.fuzz.seeds import CASES

PLACE = re.compile(r"[^ ]+\+0x[0-9a-f]+$")
MUTATIONS = 25
SECONDS = 2.0
"""Of CPU for an input; 1 is what is promised, on a machine without company."""


def walk(data, root):
    fd = os.memfd_create("core")
    os.write(fd, data)
    with CoreImage(FileSource(fd), sysroot=root) as image:
        namers = Namers(symbols=False, debuginfod="", sysroot=str(NO_FILES))
        unwinder = ImageUnwinder(image, namers, rows=lambda _, elf: extract(elf))
        unwinder.prepare()
        with image.hold() as threads:
            raws = unwinder.walk(threads)
        return [unwinder.name(*pair) for pair in zip(threads, raws, strict=True)]


def told(threads):
    """Python frames as they are, of native ones file and address, by thread."""
    return {
        each["tid"]: [
            text if text.startswith("cpython") else found[0]
            for text in each["frames"]
            if text.startswith("cpython") or (found := PLACE.search(text))
        ]
        for each in threads
    }


@pytest.mark.parametrize(
    "case", ["py-3.8-pyenv-calls", "py-3.11-pyenv-calls", "py-3.13-pyenv-async", "go-now-cgo"]
)
def test_core_file_of_a_recorded_process_gives_the_stacks_of_its_case(case, tmp_path):
    core = write_core(CASES / case / SNAPSHOT, tmp_path)

    found = told(expected(walk(core, tmp_path)))

    wanted = told(read_expected(CASES / case))
    assert found == wanted
    assert sum(map(len, found.values())) > 40


def test_core_files_whose_words_lie_give_stacks_in_time(tmp_path):
    core, chance = write_core(CASES / "py-3.11-pyenv-calls" / SNAPSHOT, tmp_path), random.Random(11)
    frames = []
    for _ in range(MUTATIONS):
        began = time.process_time()
        with contextlib.suppress(FormatError, TargetError):
            stacks = walk(mutate("recorded", [core], chance), tmp_path)
            frames.append(sum(len(each.trace.frames) for each in stacks))
        assert time.process_time() - began < SECONDS

    assert len(set(frames)) > 3  # some were hit where it matters
