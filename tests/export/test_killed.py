# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: what was in spool and store by then is there, whole, and nothing else."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otelagent.export.spool import SpoolBacklog
from otelagent.profile.formats.stored import DAMAGED, read_store

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from otelagent.export.spool import SpoolBacklog
from otelagent.export.store import Store
from tests.export.receivers import record
spool, store = SpoolBacklog(sys.argv[1], 1 << 30), Store(sys.argv[2], 1 << 30, 10**18)
for number in range(100_000):
    made = record(samples=2, name=f"f{number}" * 50)
    spool.put(made)
    store.put(made)
    print(number + 1, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_agent_leaves_whole_files(tmp_path, seed):
    places = [str(tmp_path / "spool"), str(tmp_path / "store")]
    command = [sys.executable, "-c", WRITER, *places]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        writer.stdout.readline()
        time.sleep(random.Random(seed).random() / 10)  # any moment will do
        writer.kill()
        said = writer.stdout.read().split()

    spool = SpoolBacklog(places[0], 1 << 30)
    queued = spool.queued.requests
    read = 0
    while spool.claim():
        read += 1
        spool.finish()
    lost = spool.lost()
    spool.close()
    kept = read_store(Path(places[1]))

    assert (lost, read) == ([], queued)
    assert queued >= len(said[:-1])  # the last line may be cut
    assert kept.samples // 2 in {queued - 1, queued}
    assert DAMAGED not in kept.notes
