# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""BPF and the host unwind one and the same stack to one and the same trace."""

import subprocess
import time
from collections import Counter

import pytest

from otelagent.abi.codec import decode_trace
from otelagent.options import Options
from otelagent.profiler import Profiler

SOURCE = """
__attribute__((noinline)) static int park(int depth)
{
	if (depth)
		return park(depth - 1) + 1;
	asm volatile("1: jmp 1b" ::: "memory");
	return 0;
}

int main(int argc, char **argv)
{
	return park(argc + 20) + argv[0][0];
}
"""


class Heard:
    """Finished stacks on their way to the collector, written down."""

    def __init__(self, put):
        self.put = put
        self.traces = []

    def __call__(self, record, size):
        self.traces.append(decode_trace(record))
        return self.put(record, size)


ROWS = ["-fomit-frame-pointer"]
GUESSES = ["-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]


@pytest.fixture(scope="module", params=[ROWS, GUESSES], ids=["rows", "guesses"])
def parked(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("parked") / "parked"
    flags = ["-O1", *request.param, "-fno-optimize-sibling-calls"]
    command = ["cc", *flags, "-xc", "-", "-o", path]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    return path


def record_start(parked, bounded):
    """Profile the program from its exec on: hashes made on the host, and all of those frames."""
    shell = subprocess.Popen(
        ["sh", "-c", f"read go; exec {parked}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    profiler = Profiler(Options(frequency_hz=499, pids=(shell.pid,), bounded=bounded))
    heard = Heard(profiler.finished.put)
    profiler.finished.put = heard
    profiler.start()
    try:
        with shell.stdin:
            shell.stdin.write(b"\n")
        time.sleep(1.5)
        profiler.stop()
    finally:
        shell.kill()
        shell.wait()
        profiler.close()

    by_host = Counter(
        trace.hash for trace in heard.traces if not trace.kernel and len(list(trace.frames())) > 20
    )
    traces = profiler.collector.traces
    parked_frames = {tuple(traces[each].frames()) for each in by_host}
    totals = Counter()
    for key, total in profiler.collector.groups.items():
        if not traces[key.hash].kernel and tuple(traces[key.hash].frames()) in parked_frames:
            totals[key.hash] += total.count
    return by_host, totals


@pytest.mark.needs("tool:cc")
@pytest.mark.parametrize("bounded", [False, True])
def test_first_samples_of_a_process_have_the_hash_of_its_later_ones(parked, bounded):
    for _ in range(6):  # whether the first sample hits the parked frames is chance
        by_host, totals = record_start(parked, bounded)
        if by_host:
            break

    assert len(by_host) == 1, "a first sample was unwound here"
    assert list(totals) == list(by_host), "there is one hash for these frames"
    assert totals.total() > by_host.total(), "and BPF made it too"
