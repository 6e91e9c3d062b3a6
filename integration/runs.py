# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Starts `otelagent` as a user would: with pipes or on a terminal, and waits with deadlines."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

OTELAGENT = (sys.executable, "-m", "otelagent")
WORKLOADS = Path(__file__).parent / "workloads" / "cli"
DEADLINE_SECONDS = 30
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()].|[=>78])")


def otelagent(*arguments, **options):
    """Run it to its end: (status, stdout, stderr)."""
    done = subprocess.run(
        [*OTELAGENT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def wait_until(is_done, what="what was waited for"):
    """Poll with a deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_done():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)


def free_port():
    """A port of the loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def workload(name, *arguments):
    """The command line of a workload in Python; it needs no other modules."""
    return (sys.executable, "-S", str(WORKLOADS / name), *map(str, arguments))


class Running:
    """`otelagent` (or something else) in the background, its stderr being read."""

    def __init__(self, *arguments, program=OTELAGENT, **options):
        command = [*program, *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=options.pop("stdout", subprocess.DEVNULL),
            stderr=subprocess.PIPE,
            **options,
        )
        self.said = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def wait_for(self, text):
        """Read stderr until a text is in it."""
        fd = self.process.stderr.fileno()

        def has_come():
            if text not in self.said and select.select([fd], [], [], 0.1)[0]:
                self.said += os.read(fd, 65536).decode(errors="replace")
            return text in self.said

        wait_until(has_come, f"{text!r} after {self.said!r}")

    def end(self):
        """Wait for its end: its status."""
        rest = self.process.communicate(timeout=DEADLINE_SECONDS)[1]
        self.said += rest.decode(errors="replace")
        assert "Traceback" not in self.said
        return self.process.returncode


class Terminal:
    """`otelagent` on a terminal of its own, in the foreground."""

    def __init__(self, *arguments, columns=80, lines=24, **environment):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave

        def take_terminal():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*OTELAGENT, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=take_terminal,  # noqa: PLW1509 (tests start no threads)
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        self.raw = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def read(self, seconds=0.1):
        """Take what was written to the terminal."""
        while select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            self.raw += data.decode(errors="replace")
            seconds = 0

    def press(self, keys):
        """Press keys; what came before is forgotten."""
        self.read(0)
        self.raw = ""
        os.write(self.master, keys.encode())

    @property
    def text(self):
        """What was written, without what moves the cursor or colours."""
        return _ESCAPES.sub("", self.raw)

    def wait_for(self, text):
        """Wait until a text has been shown."""

        def has_come():
            self.read()
            return text in self.text

        wait_until(has_come, repr(text))

    def end(self):
        """Wait for its end: its status; it must have put the terminal right."""

        def has_ended():
            self.read()
            return self.process.poll() is not None

        wait_until(has_ended, "the end")
        self.read(0)
        assert "Traceback" not in self.text
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode
