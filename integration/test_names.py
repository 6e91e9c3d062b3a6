# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names and shares as `record` writes them: held against `nm`, and against work of known sizes."""

from __future__ import annotations

import bisect
import math
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from integration.oracles import record_enough
from integration.programs import SOURCES, WORKLOADS
from integration.runs import otelagent
from otelagent.model import FrameType

pytestmark = pytest.mark.any_kernel
CLONE = re.compile(r"(\.(isra|constprop|part|cold|llvm|lto_priv|abi0)(\.\d+)?)+$")


class Symbols:
    """The functions of a file by `nm`: which names cover an address."""

    def __init__(self, path):
        self._ranges = []
        text = subprocess.check_output(["nm", "-S", "--defined-only", path], text=True)
        for line in text.splitlines():
            parts = line.split()
            if len(parts) == 4 and parts[2] in "tTwWiu":
                start, size = int(parts[0], 16), int(parts[1], 16)
                self._ranges.append((start, start + size, parts[3]))
        self._ranges.sort()
        self._starts = [start for start, _, _ in self._ranges]

    def at(self, address):
        """Names of the symbols that cover an address; aliases have the same start."""
        last = bisect.bisect_right(self._starts, address)
        return {
            CLONE.sub("", name)
            for start, end, name in self._ranges[max(0, last - 50) : last]
            if start <= address < end
        }


@pytest.mark.needs("tool:nm")
@pytest.mark.parametrize(
    "name", ["stacks plt", "stacks-g frames", "throws", "rust-mixed", "go-mixed"]
)
def test_covered_addresses_have_the_name_of_nm(name):
    """≥ 99.5 % of the addresses that symbols cover are named, none wrongly."""
    workload = WORKLOADS[name]
    if workload.missing:
        pytest.skip(f"needs {workload.missing}")
    command = workload.command(1.5)
    recorded = record_enough("--", *command, samples=300, hertz=1999)
    symbols = Symbols(command[0])
    named, unnamed, wrong = compare(recorded.profile, Path(command[0]).name, symbols)
    assert named > 20
    assert not wrong
    assert unnamed <= 0.005 * (named + unnamed)


def compare(profile, file, symbols):
    """Count the addresses of a file that are named, not named, and list wrong names."""
    frames = {
        frame.address: frame
        for trace in profile.traces
        for frame in trace.frames
        if frame.executable and Path(frame.executable.path).name == file
    }
    named, unnamed, wrong = 0, 0, []
    for address, frame in frames.items():
        truth = symbols.at(address)
        if not truth:
            continue
        if not frame.lines:
            unnamed += 1
            continue
        named += 1
        function = frame.lines[-1].function
        if CLONE.sub("", function.system_name or function.name) not in truth:
            wrong.append((hex(address), function, truth))
    return named, unnamed, wrong


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("stacks split", ("big_part", "small_part")),
        ("python split", ("three_quarters", "one_quarter")),
    ],
)
def test_time_is_split_as_the_work_is(command, names):
    """75 : 25 between two functions of equal depth, within four standard errors."""
    workload = WORKLOADS[command]
    if workload.missing:
        pytest.skip(f"needs {workload.missing}")
    recorded = record_enough("--", *workload.command(2), samples=700)
    shares = Counter()
    for trace, _, _, group in recorded.profile:
        inside = {line.function.name for frame in trace.frames for line in frame.lines}
        for name in names:
            shares[name] += group.count * (name in inside)
    total = shares.total()
    assert total > 500
    error = math.sqrt(0.75 * 0.25 / total)
    assert abs(shares[names[0]] / total - 0.75) < 4 * error, shares


def test_python_lines_are_those_that_run():
    """Every Python frame of the workload has a line inside its function."""
    recorded = record_enough("--", *WORKLOADS["python pure"].command(1), samples=200)
    seen = {
        (line.function.name, line.line)
        for trace in recorded.profile.traces
        for frame in trace.frames
        if frame.type == FrameType.PYTHON
        for line in frame.lines
        if line.function.file.endswith("mixed.py")
    }
    source = (SOURCES / "python" / "mixed.py").read_text().splitlines()
    assert {line for name, line in seen if name == "fib"} <= {
        at for at, text in enumerate(source, 1) if "fib(n" in text
    }


@pytest.mark.needs("tool:cc", "tool:objcopy", "tool:chroot")
def test_debug_file_in_the_root_of_the_process(tmp_path):
    """Outside of its root there is no debug file of that name."""
    program, debug = tmp_path / "bin/prog", tmp_path / "bin/.debug/prog.debug"
    debug.parent.mkdir(parents=True)
    source = '__attribute__((noinline)) void only_in_debug(void) { for (;;) __asm__(""); }'
    command = ["cc", "-static", "-g", "-O1", "-Wl,--build-id=none", "-xc", "-", "-o", program]
    source += " int main(void) { only_in_debug(); return 0; }"
    subprocess.run(command, input=source, text=True, check=True)
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["objcopy", "-S", f"--add-gnu-debuglink={debug}", program], check=True)
    with subprocess.Popen(["chroot", tmp_path, "/bin/prog"]) as process:
        try:
            time.sleep(0.3)
            output = tmp_path / "out.folded"
            arguments = ("-p", process.pid, "-F", 199, "-d", 1, "-o", output)
            status, _, said = otelagent("record", *arguments)
        finally:
            process.kill()

    assert status == 0, said
    assert "only_in_debug" in output.read_text()
