# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Make what users install: `python package/make.py [--version V] [bundle] [wheel] [pack]`.

- `bundle`: the program with the Python that it needs, in one directory (PyInstaller), and the
  files beside it: man page, completions, configuration, licences → `build/package/`
- `wheel`: for machines with a Python of their own → `build/dist/`
- `pack`: the bundle as `.deb` and `.rpm` (nfpm) → `build/dist/`
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = ROOT / "build" / "package"
BUNDLE = WORK / "otelagent"
SHARE = WORK / "share"
DIST = Path(os.environ.get("OTELAGENT_DIST", ROOT / "build" / "dist"))
BIN = Path(sys.executable).parent
PACKAGE = ROOT / "src" / "otelagent"

MACHINE = platform.machine()
DEBIAN_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
# What other packages would draw in, and nothing of ours uses. readline is under the GPL.
UNUSED = ["readline", "setuptools", "wheel", "pygments", "tkinter", "zstandard._cffi", "sqlite3"]
SHELLS = {
    "bash": "bash-completion/completions/otelagent",
    "zsh": "zsh/vendor-completions/_otelagent",
    "fish": "fish/vendor_completions.d/otelagent.fish",
}


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a tool; show what it said and stop when it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


def project_version() -> str:
    """Read the version that stands in `pyproject.toml`."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def epoch() -> dict[str, str]:
    """Give the time of the last commit to tools, so that the same commit gives the same files."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    git = ("git", "-c", f"safe.directory={ROOT}", "log", "-1", "--format=%ct")
    return {"SOURCE_DATE_EPOCH": told or run(*git).strip(), "PYTHONHASHSEED": "1"}


def bundle() -> None:
    """Collect the program and everything that is installed beside it."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    options = [
        *("--noconfirm", "--clean", "--strip", "--log-level=WARN", "--onedir", "--name=otelagent"),
        *(f"--distpath={WORK}", f"--workpath={WORK / 'work'}", f"--specpath={WORK}"),
        *("--contents-directory=lib", "--copy-metadata=otelagent"),
        *("--collect-submodules=otelagent", "--collect-all=symbolic"),
        f"--add-data={PACKAGE}/bpf/objects/*.{MACHINE}.bpf.o:otelagent/bpf/objects",
        f"--add-data={PACKAGE}/profile/static:otelagent/profile/static",
        *("--hidden-import=otelagent._native", "--hidden-import=_cffi_backend"),
        *(f"--exclude-module={name}" for name in UNUSED),
    ]
    run(BIN / "pyinstaller", *options, HERE / "main.py", env=epoch())
    share()
    licences()


def share() -> None:
    """Write man page, completions and configuration: each is made from the program itself."""
    for folder in ("man", "etc"):
        (SHARE / folder).mkdir(parents=True)
    manual = run(sys.executable, HERE / "manual.py", "page")
    (SHARE / "man" / "otelagent.1").write_text(manual)
    run("gzip", "-9n", SHARE / "man" / "otelagent.1")
    (SHARE / "etc" / "otelagent.yaml").write_text(run(sys.executable, HERE / "manual.py", "config"))
    for shell, target in SHELLS.items():
        path = SHARE / target
        path.parent.mkdir(parents=True)
        path.write_text(run(BUNDLE / "otelagent", env={"_OTELAGENT_COMPLETE": f"source_{shell}"}))


def licences() -> None:
    """Collect our licences and those of everything in the bundle, each with its text."""
    from importlib.metadata import distribution  # noqa: PLC0415

    target = SHARE / "licences"
    shutil.copytree(ROOT / "LICENSES", target / "otelagent")
    run(sys.executable, ROOT / "tools" / "legal.py")
    table = ROOT / "build" / "deps.otelagent.csv"
    with table.open() as stream:
        rows = [
            row for row in csv.reader(stream) if "development" not in row and "build" not in row
        ]
    with (target / "dependencies.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    texts = re.compile(r".*dist-info/(.*/)?(LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*")
    # The loader that starts the program is a part of PyInstaller.
    for name in [*(row[0] for row in rows[1:] if row[2] == "run-time"), "pyinstaller"]:
        for file in distribution(name).files or []:
            if texts.fullmatch(str(file)):
                keep(target / name, Path(str(file.locate())))
    for package, text in system_packages():
        keep(target / package, text)
    own = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if own.is_file():
        keep(target / "python", own)


def keep(folder: Path, file: Path) -> None:
    """Copy a file into a folder that may not be there yet."""
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder)


def system_packages() -> list[tuple[str, Path]]:
    """List the system's packages of which a library is in the bundle, with their licences."""
    found = {}
    for library in sorted((BUNDLE / "lib").glob("*.so*")):
        places = [Path(folder) / library.name for folder in ("/lib", "/usr/lib")]
        places += [place.parent / f"{MACHINE}-linux-gnu" / place.name for place in places]
        for place in places:
            told = subprocess.run(
                ["dpkg-query", "-S", str(place)], capture_output=True, text=True, check=False
            )
            package = told.stdout.partition(":")[0]
            text = Path("/usr/share/doc") / package / "copyright"
            if package and text.is_file():
                found[package] = text
    return sorted(found.items())


def elf_files() -> list[Path]:
    """List the programs and libraries of the bundle."""
    return [
        path
        for path in sorted(BUNDLE.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not path.name.endswith(".bpf.o")
        and path.open("rb").read(4) == b"\x7fELF"
    ]


def glibc_floor() -> str:
    """Find the oldest glibc that has every symbol the bundle asks for."""
    said = run("objdump", "-T", *elf_files())
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", said)}
    return ".".join(map(str, max(versions)))


def wheel(version: str) -> None:
    """Build the wheel, with the libraries that it is linked with inside."""
    plain = WORK / "wheel"
    for folder in (plain, *(ROOT / "build").glob("lib*"), *(ROOT / "build").glob("bdist*")):
        shutil.rmtree(folder, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-build-isolation", "-w", plain, ROOT, env=epoch())
    DIST.mkdir(exist_ok=True)
    path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    (built,) = plain.glob(f"otelagent-{version}-*.whl")
    run(BIN / "auditwheel", "repair", "--strip", "-w", DIST, built, env=epoch() | path)


def pack(version: str) -> None:
    """Make the packages of the bundle."""
    DIST.mkdir(exist_ok=True)
    values = {
        "version": version,
        "arch": DEBIAN_ARCHES[MACHINE],
        "glibc": glibc_floor(),
        "bundle": BUNDLE,
        "share": SHARE,
        "here": HERE,
        "root": ROOT,
    }
    recipe = WORK / "nfpm.yaml"
    recipe.write_text(Template((HERE / "nfpm.yaml").read_text()).substitute(values))
    # What is installed must not depend on the umask of who built it.
    for path in (*BUNDLE.rglob("*"), *SHARE.rglob("*"), BUNDLE, SHARE):
        if not path.is_symlink():
            is_open = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if is_open else 0o644)
    for kind in ("deb", "rpm"):
        run(BIN / "nfpm", "package", "-f", recipe, "-p", kind, "-t", DIST, env=epoch())


def main() -> None:
    """Do what is asked for; everything without a word."""
    verbs = {"bundle": bundle, "wheel": wheel, "pack": pack}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default=project_version())
    parser.add_argument("verbs", nargs="*", default=list(verbs))
    arguments = parser.parse_args()
    if MACHINE not in DEBIAN_ARCHES:
        sys.exit(f"no packages for {MACHINE}")
    for verb in arguments.verbs:
        if verb not in verbs:
            parser.error(f"no verb {verb!r}; there are {', '.join(verbs)}")
        if verb == "bundle":
            bundle()
        else:
            verbs[verb](arguments.version)
    if DIST.is_dir():
        print(f"glibc {glibc_floor()} or newer")
        for path in sorted(DIST.glob("otelagent[-_]*")):
            print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
