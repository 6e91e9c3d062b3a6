# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Receivers that misbehave for minutes: memory stays, the sum is exact, and the log short.

Each agent has a receiver and a target of its own. At the end the receiver gets well, so that
what is within the bound of the queue must arrive.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration import receivers
from integration.receivers import Coming, Grpc, Http, Raw
from integration.runs import OTELAGENT
from integration.test_agent import samples_of
from tests.export.conformance import check
from tests.export.receivers import HttpReceiver, babble, hang_up
from tests.export.test_grpc_client import GrpcReceiver

SECONDS = float(os.environ.get("OTELAGENT_RECEIVERS_SECONDS", "120"))
LIGHT = """
import time
def shallow(): return sum(i for i in range(3000))
def deeper(depth): return deeper(depth - 1) if depth else shallow()
end = time.monotonic() + 900
while time.monotonic() < end:
    deeper(int(time.monotonic() * 10) % 40)
    time.sleep(0.01)
"""
SMALL, BIG = "16KiB", "16MiB"
MOST_MB, WITH_QUEUE_MB = 1.0, 5.0
"""So much the second half may have more than the first: where the queue is full, and where there
is room in it for all that is sampled meanwhile."""
MOST_LINES = 12
"""Warnings in the whole time."""
_LINE = re.compile(
    r"requests: (\d+) \((\d+) samples\) attempted = (\d+) \((\d+) samples\) delivered "
    r"\+ (\d+) \((\d+) samples\) dropped \+ (\d+) \((\d+) samples\) queued"
)


@dataclass
class Case:
    """One agent, and what its receiver does.

    Attributes:
        refuses: Requests are dropped because of what the receiver says.
        uncounted: It says of requests that it took them, and did not look at them.
        flaps: It is well and ill in turns.
    """

    name: str
    make: object
    options: tuple[str, ...] = ()
    queue: str = BIG
    is_spooled: bool = False
    refuses: bool = False
    uncounted: bool = False
    flaps: bool = False
    memory: list = field(default_factory=list)


WAITS = ("--off-cpu-threshold=1",)
QUICK = ("--timeout=3s",)
CASES = (
    Case("http-killed", lambda: Coming(lambda port: HttpReceiver(port=port), 5), flaps=True),
    Case("http-hung", lambda: Http("hang"), QUICK, SMALL),
    Case("http-slow", lambda: Http(receivers.drip_slowly), QUICK, SMALL, is_spooled=True),
    Case("http-429", lambda: Http(receivers.BUSY)),
    Case("http-500", lambda: Http(receivers.BROKEN), refuses=True),
    Case("http-babble", lambda: Http(babble), (), SMALL),
    Case("http-html", lambda: Http(receivers.HTML)),
    Case("http-half", lambda: Http(hang_up), uncounted=True),
    Case(
        *("http-mixed", lambda: Http(*receivers.MIXED), WAITS, SMALL),
        is_spooled=True,
        refuses=True,
        uncounted=True,
        flaps=True,
    ),
    Case("grpc-killed", lambda: Coming(GrpcReceiver, 5), is_spooled=True, flaps=True),
    Case("grpc-hung", lambda: Grpc(receivers.hang), QUICK),
    Case("grpc-silent", lambda: Raw(receivers.hold), (*QUICK, *WAITS), SMALL),
    Case("grpc-exhausted", lambda: Grpc(receivers.exhausted(2)), WAITS),
    Case("grpc-exhausted-small", lambda: Grpc(receivers.exhausted(2)), (), SMALL),
    Case("grpc-other", lambda: Raw(receivers.speak_another_language), (), SMALL),
    Case("grpc-no-trailers", lambda: Raw(receivers.leave_trailers_out), refuses=True),
    Case(
        *("grpc-mixed", lambda: Grpc(*receivers.MIXED_GRPC)),
        is_spooled=True,
        refuses=True,
        uncounted=True,
        flaps=True,
    ),
)


class Held:
    """A case that runs."""

    def __init__(self, case, folder, stack):
        self.case, self.folder = case, folder
        folder.mkdir()
        self.receiver = case.make()
        self.target = subprocess.Popen([sys.executable, "-S", "-c", LIGHT])
        stack.callback(self._clean)
        where = f"127.0.0.1:{self.receiver.port}"
        where = where if case.name.startswith("grpc") else f"http://{where}"
        options = ["-p", str(self.target.pid), f"--collection-agent={where}", "--disable-tls"]
        options += ["--samples-per-second=499", "--reporter-interval=250ms"]
        options += ["--shutdown-timeout=20s", *case.options]
        if case.is_spooled:
            options += [f"--spool={folder}/spool", f"--spool-bytes={case.queue}"]
        else:
            options += [f"--queue-bytes={case.queue}"]
        with (folder / "said").open("wb") as said:
            self.agent = subprocess.Popen([*OTELAGENT, "agent", *options], stderr=said)

    def _clean(self):
        for each in (self.agent, self.target):
            each.kill()
            each.wait()

    def look(self):
        status = Path(f"/proc/{self.agent.pid}/status").read_text()
        self.case.memory.append(int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6)

    def end(self):
        """Let the receiver get well and the agent end: what is wrong, in words."""
        self.receiver.heal()
        self.agent.send_signal(signal.SIGTERM)
        status = self.agent.wait(40)
        self.receiver.close()
        said = (self.folder / "said").read_text()
        numbers = [int(number) for number in _LINE.search(said).groups()]
        attempted, delivered, dropped, queued = numbers[1::2]
        arrived = count_once(self.receiver.taken)
        expected = numbers[2], delivered
        if self.case.options[-1:] == WAITS:  # they have a sum and no number on the wire
            arrived, expected = arrived[:1], expected[:1]
        warnings = said.count("WARNING")
        faults = [fault for each in self.receiver.taken for fault in check(each)]
        grown = growth(self.case.memory)
        print(
            f"{self.case.name:22} {attempted:6} = {delivered:6} + {dropped:6} + {queued:4}, "
            f"arrived {arrived} of {numbers[2]}, "
            f"{warnings:3} warnings, {self.case.memory[-1]:.1f} MB ({grown:+.2f})"
        )
        keeps = self.case.queue == BIG and not self.case.is_spooled and not self.case.refuses
        wrong = {
            f"status {status}": status != 0,
            "the sum is not exact": numbers[0] != sum(numbers[2::2])
            or attempted != delivered + dropped + queued,
            "unaccounted": "unaccounted" in said,
            "Traceback": "Traceback" in said,
            f"{warnings} warnings": warnings > MOST_LINES,
            f"grew by {grown:.2f} MB": grown > (WITH_QUEUE_MB if keeps else MOST_MB),
            "nothing was sampled": attempted < SECONDS,
            f"{arrived} arrived of {expected}": not self.case.uncounted and arrived != expected,
            f"{faults} faults": bool(faults),
            f"{queued} queued at the end": queued > 0 and not self.case.is_spooled,
        }
        if self.case.queue == BIG and not self.case.refuses:
            wrong[f"lost {dropped} within the bound"] = dropped > 0
        elif not self.case.flaps:
            wrong["nothing was lost, which tells nothing"] = dropped == 0
        return [f"{self.case.name}: {what}" for what, is_so in wrong.items() if is_so]


def count_once(requests):
    """Number of requests and of their samples; what was on its way at a kill comes twice."""
    once = {each.SerializeToString(deterministic=True): each for each in requests}
    return len(once), sum(map(samples_of, once.values()))


def growth(memory):
    """By how much the second half is larger, after the first third, in which a queue fills."""
    warm = memory[len(memory) // 3 :]
    half = len(warm) // 2
    return sum(warm[half:]) / len(warm[half:]) - sum(warm[:half]) / half


@pytest.mark.sweep
def test_receivers_that_misbehave_for_minutes(tmp_path):
    with ExitStack() as stack:
        held = [Held(case, tmp_path / case.name, stack) for case in CASES]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(2)
            for each in held:
                each.look()
        wrong = [what for each in held for what in each.end()]
    assert wrong == []
