# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""List what otelagent depends on and under which licences; fail on one that is not allowed.

Python packages are read from the metadata of this environment, direct and
transitive ones; the C libraries that the extension is linked with stand in a
table here. The list goes to `build/deps.otelagent.csv`.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import astuple, dataclass, fields
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "build" / "deps.otelagent.csv"

ALLOWED = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "Zlib"),
    *("MPL-2.0", "PSF-2.0", "LicenseRef-Public-Domain"),
}
# A library that is linked dynamically can be replaced by the user, which is what these ask for.
ALLOWED_LINKED = ALLOWED | {"LGPL-2.1", "LGPL-2.1-or-later", "LGPL-3.0-or-later"}
# A tool that is only run: nothing of it reaches what we ship.
ALLOWED_TOOLS = ALLOWED | {"GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-or-later"}
# The exception lets its loader, which starts our packages, go with programs of any licence.
ALLOWED_TOOLS |= {"GPL-2.0-or-later WITH Bootloader-exception"}

# Names that metadata uses → SPDX.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "GPLv2-or-later with a special exception which allows to use PyInstaller to build and "
    "distribute non-free programs (including commercial ones)": (
        "GPL-2.0-or-later WITH Bootloader-exception"
    ),
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Public Domain": "LicenseRef-Public-Domain",
    "Public domain": "LicenseRef-Public-Domain",
    "Python Software Foundation License": "PSF-2.0",
}


@dataclass(frozen=True, slots=True)
class Dependency:
    """One row of the list. `role`: run-time, linked, build or development."""

    name: str
    version: str
    role: str
    license: str


# name, pkg-config's name, licence as its own sources state it
LIBRARIES = [
    ("libbpf", "libbpf", "LGPL-2.1 OR BSD-2-Clause"),
    ("libelf (elfutils)", "libelf", "LGPL-3.0-or-later OR GPL-2.0-or-later"),
    ("zlib", "zlib", "Zlib"),
]


def read_license(package: Distribution) -> str:
    """Read a package's licence as an SPDX expression, from whichever field holds it."""
    metadata = package.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return expression
    text = (metadata.get("License") or "").strip()
    classifiers = metadata.get_all("Classifier") or []
    names = [line.rsplit(" :: ", 1)[-1] for line in classifiers if line.startswith("License :: ")]
    for name in (text, *names):
        if name in SPDX:
            return SPDX[name]
    return text.splitlines()[0] if text else "UNKNOWN"


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Tell whether an SPDX expression without parentheses offers a way that is allowed."""
    ways = re.split(r"\s+OR\s+", expression)
    return any(all(part in allowed for part in re.split(r"\s+AND\s+", way)) for way in ways)


def requirements(package: Distribution, extras: set[str]) -> list[Requirement]:
    """List what a package needs on this machine."""
    needed = [Requirement(line) for line in package.requires or []]
    contexts = [{"extra": extra} for extra in extras or {""}]
    return [
        need
        for need in needed
        if not need.marker or any(need.marker.evaluate(context) for context in contexts)
    ]


def close(direct: list[Requirement], role: str, seen: dict[str, Dependency]) -> None:
    """Add these and all that they need, unless a more important role has them already."""
    todo = list(direct)
    while todo:
        need = todo.pop()
        try:
            package = distribution(need.name)
        except PackageNotFoundError:
            continue  # an extra that is not installed here
        key = package.name.lower().replace("_", "-")
        if key in seen and not need.extras:
            continue
        if package.name != "otelagent":
            if key in seen:
                continue
            seen[key] = Dependency(package.name, package.version, role, read_license(package))
        todo += requirements(package, set(need.extras))


def read_python_packages() -> list[Dependency]:
    """List the packages that run with us, build us, and test us, in this order of importance."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    seen: dict[str, Dependency] = {}
    extras = project["project"]["optional-dependencies"]
    # Each other extra is something that a user may install.
    tools = ("dev", "package")
    offered = [line for name, lines in extras.items() if name not in tools for line in lines]
    groups = [
        ("run-time", [*project["project"]["dependencies"], *offered]),
        ("build", project["build-system"]["requires"]),
        ("development", [line for name in tools for line in extras[name]]),
    ]
    for role, lines in groups:
        close([Requirement(line) for line in lines], role, seen)
    return list(seen.values())


def read_libraries() -> list[Dependency]:
    """List the C libraries, with the version that is installed here."""
    found = []
    for name, module, spdx in LIBRARIES:
        command = ["pkg-config", "--modversion", module]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        found.append(Dependency(name, result.stdout.strip() or "not installed", "linked", spdx))
    return found


def refused(dependencies: list[Dependency]) -> list[Dependency]:
    """Pick those whose licence is not allowed for what they do here."""
    by_role = {"linked": ALLOWED_LINKED, "development": ALLOWED_TOOLS}
    return [d for d in dependencies if not is_allowed(d.license, by_role.get(d.role, ALLOWED))]


def main() -> int:
    """Write the list, print the summary, name what is refused."""
    dependencies = sorted(
        [*read_python_packages(), *read_libraries()], key=lambda d: (d.role, d.name.lower())
    )
    TARGET.parent.mkdir(exist_ok=True)
    with TARGET.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([field.name for field in fields(Dependency)])
        writer.writerows(astuple(dependency) for dependency in dependencies)
    print("Count  License")
    for spdx, count in Counter(dependency.license for dependency in dependencies).most_common():
        print(f"{count:5}  {spdx}")
    print(f"{len(dependencies)} dependencies: {TARGET.relative_to(ROOT)}")
    for dependency in refused(dependencies):
        print(f"not allowed as {dependency.role}: {dependency.name} ({dependency.license})")
    return int(bool(refused(dependencies)))


if __name__ == "__main__":
    sys.exit(main())
