# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import errno
import os

import pytest

from otelagent.errors import MissingFeature
from otelagent.host import tracefs


@pytest.fixture
def places(tmp_path, monkeypatch):
    found = (tmp_path / "tracing", tmp_path / "debug")
    monkeypatch.setattr(tracefs, "PLACES", found)
    return found


def add_event(place, category, name, number):
    folder = place / "events" / category / name
    folder.mkdir(parents=True)
    (folder / "id").write_text(f"{number}\n")


def test_an_event_is_found_at_either_place(places):
    add_event(places[1], "syscalls", "sys_enter_read", 842)

    assert tracefs.find_event("syscalls", "sys_enter_read") == 842
    with tracefs.open_tracefs() as (_, place):
        assert place == str(places[1])


def test_the_first_place_wins_and_an_unknown_event_is_none(places):
    add_event(places[0], "sched", "sched_switch", 1)
    add_event(places[1], "syscalls", "sys_enter_read", 842)

    assert tracefs.find_event("syscalls", "sys_enter_read") is None


class FakeLib:
    def __init__(self, fd):
        self.fd = fd

    def oa_tracefs_mount(self):
        return self.fd


def test_where_it_is_not_mounted_a_private_one_is_used(places, monkeypatch, tmp_path):
    add_event(tmp_path / "private", "raw_syscalls", "sys_enter", 7)
    fd = os.open(tmp_path / "private", os.O_PATH)
    monkeypatch.setattr(tracefs, "lib", FakeLib(fd))

    assert tracefs.find_event("raw_syscalls", "sys_enter") == 7
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_without_any_the_way_to_mount_it_is_told(places, monkeypatch):
    monkeypatch.setattr(tracefs, "lib", FakeLib(-errno.EPERM))

    with pytest.raises(MissingFeature, match="Operation not permitted") as caught:
        tracefs.find_event("syscalls", "sys_enter_read")

    assert "mount -t tracefs" in caught.value.hint
