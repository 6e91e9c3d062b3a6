# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Files of a store: by time, also where a crash cut them, and as a format of its own."""

import io

import pytest

from otelagent.errors import FormatError
from otelagent.export.splitting import encode_requests
from otelagent.export.store import Store
from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile.formats import registry
from otelagent.profile.formats.stored import DAMAGED, read_store
from otelagent.profile.model import Profile
from tests.builders.profiles import START_NS, synthetic_profile

SECOND = 10**9
HOUR = 3600 * SECOND


def interval(at, samples=10):
    """A second's samples, evenly spread, as the agent makes them."""
    start = START_NS + at * SECOND
    made = Profile(period_ns=1, start_unix_ns=start, duration_ns=SECOND, notes={"lost.x": 1})
    times = [start + n * SECOND // samples for n in range(samples)]
    made.add(Trace(()), Process(Pid(7), "app"), Thread(7), samples, 0, times)
    return made


@pytest.fixture
def store(tmp_path):
    """Ten seconds in several files."""
    clock = [START_NS]
    kept = Store(str(tmp_path), 1 << 30, 1000 * HOUR, lambda: clock[0])
    for at in range(10):
        if at % 3 == 0:
            clock[0] += 2 * HOUR  # another file
        made = interval(at)
        for record in encode_requests(made, made):
            kept.put(record)
    kept.close(0)
    return tmp_path


def test_all_of_a_store_is_all_samples_and_all_losses(store):
    found = read_store(store)

    assert len(list(store.glob("*.zst"))) == 4
    assert (found.samples, found.notes) == (100, {"lost.x": 10})
    assert (found.start_unix_ns, found.duration_ns) == (START_NS, 10 * SECOND)


@pytest.mark.parametrize(
    ("since", "until", "samples"),
    [(2, 5, 30), (2.5, 5.5, 30), (0, 0.35, 4), (9.5, 100, 5), (20, 30, 0), (3, 3.1, 1)],
)
def test_a_time_has_just_its_samples(store, since, until, samples):
    found = read_store(store, START_NS + int(since * SECOND), START_NS + int(until * SECOND))

    assert found.samples == samples


def test_a_damaged_file_costs_what_comes_after_the_damage(store):
    first, second, *_rest = sorted(store.glob("*.zst"))
    data = second.read_bytes()
    second.write_bytes(data[: len(data) - 10])

    found = read_store(store)

    assert found.samples == 90
    assert found.notes[DAMAGED] == 1
    assert registry.read(second).samples == 20
    first.write_bytes(b"\x5b\x2a\x4d\x18 nonsense" * 9)
    with pytest.raises(FormatError, match="no record"):
        registry.read(first)


def test_a_newest_file_that_is_being_written_is_no_damage(store):
    newest = max(store.glob("*.zst"))
    with newest.open("ab") as stream:
        stream.write(b"half a record")

    found = read_store(store)

    assert (found.samples, DAMAGED in found.notes) == (100, False)


def test_joined_files_are_one_file(store, tmp_path):
    joined = tmp_path / "all"
    joined.write_bytes(b"".join(each.read_bytes() for each in sorted(store.glob("*.zst"))))

    assert registry.read(joined).samples == 100


def test_any_profile_can_be_written_as_such_a_file():
    made = synthetic_profile()
    stream = io.BytesIO()

    registry.write(made, "otlp.zst", stream)

    found = registry.format_named("otlp.zst").read(stream.getvalue())
    assert (found.samples, len(found.traces)) == (made.samples, len(made.traces))


def test_a_directory_without_such_files_is_told(tmp_path):
    with pytest.raises(FormatError, match="no files of a store"):
        read_store(tmp_path)
