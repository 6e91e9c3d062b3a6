# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What every file must have, and what none may."""

import re
import tomllib
from pathlib import Path

from otelagent import __version__
from tests.house.tracked import ROOT, tracked

COPYRIGHT = "Copyright The otelagent authors"
# Files that have no place for a comment, or that are not ours.
WITHOUT_HEADER = {".md", ".txt", ".json", ".folded", ".gitkeep", ".zst", ".toml", ".gitignore"}
FOREIGN = ("LICENSES/", "vmlinux/", ".clang-format")
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "base", "manager"}
# Written in pieces, so that this file does not match itself.
MACHINE = re.compile(
    r"(?<![\w.])/(?:work|farm)" + r"/|/opt/wheels|/tmp/bash_jobs|\.\./shared" + r"/"
    r"|https?://(?:deb|security|snapshot)\.debian\.org|files\.pythonhosted\.org"
)
# `.ci/run` alone may look for kernel images beside the checkout.
MAY_NAME_SHARED = {".ci/run", "tests/house/test_rules.py"}


def needs_header(path: Path) -> bool:
    if str(path).startswith(FOREIGN) or path.name in WITHOUT_HEADER:
        return False
    return path.suffix not in WITHOUT_HEADER and (ROOT / path).stat().st_size > 0


def expected_license(path: Path) -> str:
    return "GPL-2.0-only OR BSD-2-Clause" if path.parts[0] == "ebpf" else "Apache-2.0"


def test_every_source_begins_with_copyright_and_license():
    bad = []
    for path in filter(needs_header, tracked()):
        data = (ROOT / path).read_bytes()[:400]
        if b"\0" in data:
            continue
        lines = data.decode(errors="replace").splitlines()
        head = lines[1:3] if lines[0].startswith("#!") else lines[:2]
        identifier = f"SPDX-License-Identifier: {expected_license(path)}"
        if COPYRIGHT not in head[0] or not any(identifier in line for line in head):
            bad.append(str(path))

    assert bad == []


def test_modules_are_named_for_what_they_know():
    names = [path for path in tracked("*.py", "*.c", "*.h") if path.stem in FORBIDDEN_NAMES]
    folders = [path for path in tracked("src") if FORBIDDEN_NAMES & set(path.parts)]

    assert names + folders == []


def test_no_file_names_a_machine():
    bad = []
    for path in tracked():
        if str(path) in MAY_NAME_SHARED or str(path).startswith(FOREIGN):
            continue
        text = (ROOT / path).read_bytes().decode(errors="ignore")
        bad += [f"{path}: {match[0]}" for match in MACHINE.finditer(text)]

    assert bad == []


def test_generated_files_are_not_tracked():
    assert tracked("src/*_generated.py", "*.so", "*.o", "build") == []


def test_every_license_in_use_has_its_text():
    texts = {path.stem for path in tracked("LICENSES")}

    assert {"Apache-2.0", "BSD-2-Clause", "GPL-2.0-only"} == texts


def test_arrows_are_checked_for_every_package():
    """A package that no layer names could import whatever it likes."""
    layers = (ROOT / "pyproject.toml").read_text()
    packages = {path.parts[2] for path in tracked("src/otelagent/*/*.py")}

    assert [name for name in sorted(packages) if f"otelagent.{name}" not in layers] == []


def test_the_version_is_the_same_wherever_it_stands():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert __version__ == project["version"]
