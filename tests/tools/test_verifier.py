# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""When `make verifier-report` fails."""

import verifier

from otelagent.bpf.verifier import Statistics


def taking(instructions, name="unwind_x"):
    return Statistics(name, instructions, 1_000_000, 2_000_000, 64)


def run(monkeypatch, rows):
    monkeypatch.setattr(verifier, "has_feature", lambda _name: False)
    monkeypatch.setattr(verifier, "measure", lambda **_: (rows, 2.5))
    return verifier.main()


def test_a_program_within_a_fifth_of_the_limit_fails(monkeypatch, capsys):
    assert run(monkeypatch, [taking(799_999)]) == 0
    assert run(monkeypatch, [taking(800_000), taking(10, "on_free")]) == 1

    said = capsys.readouterr().out
    assert "too near to the limit: unwind_x" in said
    assert "loaded in 2.50 s bounded; unwind_x takes most, 80.0 % of the limit" in said


def test_nothing_loaded_fails(monkeypatch):
    assert run(monkeypatch, []) == 1
