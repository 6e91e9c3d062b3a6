# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A recording of a steady program sleeps most of the time, whatever it samples."""

import subprocess
import sys
import time
from pathlib import Path

from otelagent.options import Options
from otelagent.profiler import Profiler

STEADY = Path(__file__).parents[1] / "bench" / "workloads" / "steady.py"
SECONDS = 4


def voluntary_switches(thread):
    text = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])


def test_samples_of_a_steady_python_program_do_not_wake_the_reader():
    with subprocess.Popen([sys.executable, STEADY]) as child:
        profiler = Profiler(Options(frequency_hz=499, pids=(child.pid,)))
        profiler.start()
        try:
            time.sleep(2)  # all of its functions were met
            before = voluntary_switches(profiler.reader)
            time.sleep(SECONDS)
            wakeups = voluntary_switches(profiler.reader) - before
            profiler.stop()
            counters = profiler.losses().counters
        finally:
            profiler.close()
            child.kill()

    assert counters["TRACES"] > 100, "each new trace once woke it"
    assert wakeups < 5 * SECONDS


def test_what_was_sampled_can_be_had_at_any_time():
    with subprocess.Popen([sys.executable, STEADY]) as child:
        profiler = Profiler(Options(frequency_hz=499, pids=(child.pid,)))
        profiler.start()
        try:
            time.sleep(2)
            for _ in range(20):
                time.sleep(0.02)
                profiler.flush()
                got = profiler.collector.tally_now().samples
                assert got > 0
                # A tick that is being sent may be missing.
                assert profiler.losses().counters["SAMPLES"] - got < 20
            profiler.stop()
            assert profiler.losses().counters["SAMPLES"] == profiler.collector.tally.samples
        finally:
            profiler.close()
            child.kill()


def test_what_other_processes_do_is_looked_at_ever_less_often():
    """The kernel tells of each program that starts anywhere."""
    with subprocess.Popen(["sleep", "100"]) as child:
        profiler = Profiler(Options(frequency_hz=99, pids=(child.pid,)))
        profiler.start()
        try:
            before = voluntary_switches(profiler.processes)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                subprocess.run(["true"], check=True)
                time.sleep(0.01)
            wakeups = voluntary_switches(profiler.processes) - before
            profiler.stop()
        finally:
            profiler.close()
            child.kill()

    assert wakeups < 180, "300 where each look came 50 ms after the one before"
