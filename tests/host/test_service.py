# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told arrives, and nobody is missed where there is none."""

import os
import socket

import pytest

from otelagent.host.service import READY, ServiceManager, reloading


@pytest.mark.parametrize("is_abstract", [False, True])
def test_messages_arrive_as_they_were_sent(tmp_path, is_abstract):
    name = f"@otelagent-test-{os.getpid()}" if is_abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name[1:]}" if is_abstract else name)
        service = ServiceManager({"NOTIFY_SOCKET": name})

        service.tell(READY)
        service.tell(*reloading())

        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_a_manager_that_is_not_there_or_does_not_listen_is_no_error(tmp_path):
    ServiceManager({}).tell(READY)
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell(READY)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdogs_time_is_read_where_it_is_meant_for_us(environ, seconds):
    assert ServiceManager(environ).watchdog_s == seconds
