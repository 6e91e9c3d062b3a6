# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of kernels, and what is booted with which words."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import fetch
import matrix
import pytest
import special

from otelagent.kernel.features import KernelFeatures

KERNELS = matrix.parse_kernels(matrix.KERNELS.read_text())


def test_the_table_names_features_that_are_probed():
    known = {field.name for field in fields(KernelFeatures)}

    for kernel in KERNELS:
        assert set(kernel.features) | set(kernel.lacks) <= known, kernel.name
        assert not set(kernel.features) & set(kernel.lacks), kernel.name
    assert len({kernel.name for kernel in KERNELS}) == len(KERNELS)


def test_each_special_kernel_has_its_fragment():
    named = {kernel.name for kernel in KERNELS if kernel.is_special}

    assert named == {path.stem for path in special.FRAGMENTS.glob("*.config")} - {"common"}


def test_the_usual_set_is_that_of_the_oldest_and_newest_and_the_special_ones():
    chosen = [kernel.name for kernel in matrix.choose(KERNELS, [], every=False)]

    assert chosen[:4] == ["5.10", "6.1", "6.12", "newest"]
    assert len(chosen) == 7
    assert len(matrix.choose(KERNELS, [], every=True)) == len(KERNELS)
    assert [k.name for k in matrix.choose(KERNELS, ["6.1"], every=False)] == ["6.1"]
    with pytest.raises(SystemExit, match=r"does not have 2\.4"):
        matrix.choose(KERNELS, ["2.4"], every=False)


def test_the_guest_learns_what_it_must_have():
    (wanted,) = matrix.choose(KERNELS, ["5.10"], every=False)
    kernel = fetch.Kernel("5.10.0", Path("/k/vmlinuz"), Path("/k/modules"))

    command = matrix.guest_command(kernel, wanted, ("true", "x"))

    before = command[: command.index("--")]
    assert before[2:6] == ["--kernel", "/k/vmlinuz", "--modules", "/k/modules"]
    words = dict(word.split("=", 1) for word in before if "=" in word)
    assert "ring_buffer" in words["OTELAGENT_FEATURES"].split(",")
    assert words["OTELAGENT_LACKS"] == "bpf_loop"
    assert command[-3:] == ["--", "true", "x"]


def test_guests_differ_in_their_number_of_cpus():
    cpus = {kernel.name: (kernel.series, kernel.cpus) for kernel in KERNELS if kernel.cpus != 2}
    (four,) = matrix.choose(KERNELS, ["newest-4cpus"], every=False)

    assert cpus == {"newest-1cpu": ("newest", 1), "newest-4cpus": ("newest", 4)}
    command = matrix.guest_command(fetch.Kernel("7.3", Path("/k"), None), four, ("true",))
    assert command[command.index("--cpus") + 1] == "4"


def test_guests_collect_only_files_with_tests_for_them():
    files = matrix.guest_tests(every=False)

    assert "integration/test_guest_record.py" in files
    assert "integration/test_viewer.py" not in files
    assert set(files) <= set(matrix.guest_tests(every=True))


def test_what_guests_import_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix.vm, "ROOT", tmp_path)
    for name in ("src", "tools", "bench", "integration"):
        (tmp_path / name).mkdir()
    programs = tmp_path / "integration" / "programs.py"
    programs.write_text(
        "import sys\nfrom pathlib import Path\nPath('made').write_text(sys.argv[1])\n"
    )
    (tmp_path / "src" / "module.py").touch()
    test = tmp_path / "test_x.py"
    test.write_text("import pytest\n@pytest.mark.guest\ndef test_x():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = guest\n")

    matrix.prepare(["test_x.py"])

    compiled = [path.name for path in tmp_path.rglob("*.pyc")]
    assert any(name.startswith("module.") for name in compiled)
    assert any(name.startswith("test_x.") and "pytest" in name for name in compiled)
    assert (tmp_path / "made").read_text() == matrix.PROGRAMS[0]
    programs.write_text("raise SystemExit('no compiler')")
    with pytest.raises(SystemExit, match=r"integration\.programs failed:\nno compiler"):
        matrix.prepare(["test_x.py"])
    test.write_text("import nowhere")
    with pytest.raises(SystemExit, match="pytest failed"):
        matrix.prepare(["test_x.py"])


def test_special_kernels_come_from_the_folder_or_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(special, "build", lambda name, target: (name, target))
    monkeypatch.setenv("OTELAGENT_KERNELS", str(tmp_path / "given"))
    assert special.find("x") == ("x", tmp_path / "cache" / "special" / "x")

    for place in ("cache/special", "given"):
        (tmp_path / place / "x").mkdir(parents=True)
        (tmp_path / place / "x" / "bzImage").touch()
        assert special.find("x").image == tmp_path / place / "x" / "bzImage"


def test_a_kernel_that_cannot_be_had_is_skipped_loudly(monkeypatch, capsys):
    def refuse(name):
        raise fetch.NoKernel(f"no kernel {name}")

    monkeypatch.setattr(fetch, "fetch", refuse)

    outcome = matrix.Matrix(()).boot(KERNELS[0])

    assert (outcome.status, outcome.release) == (0, "-")
    assert "SKIPPED: no kernel 5.10" in capsys.readouterr().out
    monkeypatch.setattr(matrix.sys, "argv", ["matrix.py", "5.10"])
    monkeypatch.setattr(matrix, "LOGS", Path("/tmp"))
    monkeypatch.setattr(matrix, "prepare", lambda files: None)
    assert matrix.main() == 1, "nothing was tested"


def test_a_guest_that_panicked_is_booted_once_more(monkeypatch):
    answers = [(97, ["vm: the guest ended early\n"]), (0, ["5 passed in 3.00s\n"])]
    monkeypatch.setattr(fetch, "fetch", lambda name: fetch.Kernel("r", Path("i"), None))
    monkeypatch.setattr(matrix.Matrix, "_run", lambda *_: answers.pop(0))

    outcome = matrix.Matrix(()).boot(KERNELS[0])

    assert (outcome.status, outcome.last_line) == (0, "5 passed in 3.00s")
    assert answers == []


def test_what_there_is_no_time_for_is_named(monkeypatch, capsys):
    monkeypatch.setattr(matrix, "BUDGET_S", 1)

    outcome = matrix.Matrix(()).boot(KERNELS[0])

    assert (outcome.status, outcome.release) == (0, "-")
    assert "NOT RUN" in outcome.last_line
    assert "5.10 NOT RUN" in capsys.readouterr().out


def test_a_guest_begins_only_if_the_longest_one_would_end_in_time(monkeypatch):
    clock = iter([0, 0, 200, 201])
    monkeypatch.setattr(matrix, "BUDGET_S", 340)
    monkeypatch.setattr(matrix, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(fetch, "fetch", lambda name: fetch.Kernel("r", Path("i"), None))
    monkeypatch.setattr(matrix.Matrix, "_run", lambda *_: (0, ["5 passed in 3.00s\n"]))
    guests = matrix.Matrix(())

    assert guests.boot(KERNELS[0]).last_line == "5 passed in 3.00s"
    assert "NOT RUN" in guests.boot(KERNELS[0]).last_line


def test_jobs_may_be_set(monkeypatch):
    monkeypatch.setenv("OTELAGENT_QEMU_JOBS", "3")
    assert matrix.jobs() == 3
    monkeypatch.delenv("OTELAGENT_QEMU_JOBS")
    assert matrix.jobs() >= 1


def test_guests_of_arm64_run_their_own_checks_with_their_own_root(tmp_path):
    kernel = fetch.Kernel("6.12", tmp_path / "vmlinuz", None)
    wanted = {each.name: each for each in KERNELS if each.is_arm64}
    plain, signing = wanted["arm64-6.12"], wanted["arm64-signing"]

    command = matrix.guest_command(kernel, plain, ("unused",))
    assert "--arm64" in command
    assert "--signing" not in command
    assert command[command.index("--timeout") + 1] == str(matrix.TIMEOUT_S * matrix.ARM64_TIMES)
    assert tuple(command[command.index("--") + 1 :]) == matrix.ARM64_CHECKS
    assert "--signing" in matrix.guest_command(kernel, signing, ("unused",))
    assert not any(each.always for each in wanted.values())


def test_a_guest_of_arm64_is_skipped_and_said_where_there_is_no_emulator(monkeypatch, capsys):
    monkeypatch.setattr(matrix.shutil, "which", lambda _name: None)
    wanted = next(each for each in KERNELS if each.is_arm64)

    outcome = matrix.Matrix(("true",)).boot(wanted)

    assert (outcome.status, outcome.release) == (0, "-")
    assert "qemu-system-aarch64 is not installed" in outcome.last_line
    assert "SKIPPED" in capsys.readouterr().out
