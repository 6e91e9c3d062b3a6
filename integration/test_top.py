# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`top`: live on a terminal, which it always gives back; plain tables elsewhere."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from integration.runs import Running, Terminal, otelagent, wait_until, workload

SPIN = workload("spin.py", 60)
ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def live():
    with Terminal("top", "--interval", "300ms", "--", *SPIN) as run:
        run.wait_for("leaf")
        yield run


def quit_cleanly(run):
    """Quit: the screen is left, and the last word is a summary."""
    run.press("q")
    assert run.end() == 0
    assert NORMAL in run.raw
    assert re.search(r"otelagent: \d+ samples", run.text)


def test_q_quits_and_ends_the_command(live):
    assert ALTERNATE in live.raw
    quit_cleanly(live)


def test_keys_sort_filter_switch_pause_and_help(live):
    for key, shown in (
        ("t", "functions, by total"),
        ("s", "functions, by self"),
        ("p", "processes, by self"),
        ("p", "threads, by self"),
        ("p", "functions, by self"),
        ("l", "spin.py:"),
        ("w", "since the start"),
        ("/LEA", "filter: LEA"),
        ("\n", "with 'LEA'"),
        (" ", "PAUSED"),
        (" ", "with 'LEA'"),
        ("h", "sort by total: also in what it calls"),
        ("h", "with 'LEA'"),
        ("/zzz", "nothing matches"),
        ("\x1b", "leaf"),
    ):
        live.press(key)
        live.wait_for(shown)
    quit_cleanly(live)


def test_the_first_line_tells_how_it_goes(live):
    live.press("t")
    live.wait_for("by total")
    assert re.search(r"\d+ s  \d+ samples/s  \d+ lost  \d+ short stacks", live.text)
    quit_cleanly(live)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_the_screen(live, number, status):
    live.process.send_signal(number)

    assert live.end() == status
    assert NORMAL in live.raw


def test_ctrl_c_leaves_the_screen(live):
    live.press("\x03")

    assert live.end() == 130
    assert NORMAL in live.raw


def test_ctrl_z_leaves_the_screen_until_it_is_continued(live):
    live.press("\x1a")

    def is_stopped():
        live.read()
        stat = Path(f"/proc/{live.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    wait_until(is_stopped)
    assert NORMAL in live.raw
    live.process.send_signal(signal.SIGCONT)
    live.wait_for("samples/s")
    quit_cleanly(live)


def test_an_error_leaves_the_screen_in_peace():
    with Terminal("top", "--", "no-such-command") as run:
        assert run.end() == 127
    assert "command not found" in run.text


def test_the_end_of_the_command_is_the_end():
    with Terminal("top", "--", *workload("spin.py", 1, 5)) as run:
        assert run.end() == 5
    assert "leaf" in run.text


def test_a_process_that_ran_already_is_left_running():
    with subprocess.Popen(SPIN) as spin, Terminal("top", "-p", spin.pid) as run:
        run.wait_for("leaf")
        quit_cleanly(run)
        assert spin.poll() is None
        spin.kill()


def test_elsewhere_there_is_one_table_at_the_end():
    status, out, said = otelagent("top", "--", *workload("spin.py", 1))

    assert status == 0
    assert out.count("function") == 1
    assert "leaf" in out
    assert "\x1b" not in out
    assert said.splitlines()[-1].startswith("otelagent: ")


def test_elsewhere_there_is_a_table_for_each_interval():
    status, out, _ = otelagent("top", "--interval", "500ms", "-d", 2, "--", *SPIN)

    assert status == 0
    assert len(re.findall(r"samples/s", out)) >= 3
    assert out.count("leaf") >= 2


def test_a_dumb_terminal_gets_plain_tables():
    with Terminal("top", "-d", "1", "--", *SPIN, TERM="dumb") as run:
        assert run.end() == 0
    assert "leaf" in run.text
    assert "\x1b" not in run.raw


def test_no_color_is_obeyed():
    with Terminal("top", "-d", "2", "--", *SPIN, NO_COLOR="1") as run:
        assert run.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", run.raw)


def test_a_reader_that_went_away_ends_it():
    read, write = os.pipe()
    os.close(read)
    run = Running("top", "--interval", "300ms", "--", *SPIN, stdout=write)
    with run:
        os.close(write)

        assert run.end() == 1
    assert "samples/s" not in run.said
