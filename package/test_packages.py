# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `make package` made, installed where nothing of this machine helps it (root).

A clean Debian root without Python for the `.deb`, a copy of it with a database of its own for
the `.rpm`: no RPM system is booted here. There is no systemd in either; what it would do with
the unit is done by hand, the capabilities and the memory protection among it.
"""

import configparser
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "build" / "dist"
UNIT = ROOT / "package" / "otelagent.service"
CONFIG = "/etc/otelagent/otelagent.yaml"
BUSY = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
# Package databases and logs of the package tools, and what the dynamic linker remembers.
NOT_OURS = re.compile(
    r"/(root/.rpmdb|var/(lib/(dpkg|rpm)|log|cache/(ldconfig|debconf|man))|proc|sys|dev|tmp)(/|$)"
)
# As unit managers set it: memory that is written is never run (linux/prctl.h: PR_SET_MDWE).
WITHOUT_JIT = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Machine:
    """A root directory in which programs are run."""

    def __init__(self, path):
        self.path = path

    def command(self, *words):
        """Enter with what the kernel shows, in a mount namespace that ends with the program."""
        mounts = " && ".join(
            f"mount --rbind /{name} {self.path}/{name}" for name in ("proc", "sys", "dev")
        )
        script = f'mount --make-rprivate / && {mounts} && exec chroot {self.path} "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, words)]

    def run(self, *words, status=0, env=None):
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"} | (env or {})
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            env=environ,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def files(self):
        """List everything that a package could have left."""
        listed = subprocess.run(
            ["find", ".", "-printf", "/%P %y %m %s\n"],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        # A directory's size and times say nothing of what is in it now.
        lines = {re.sub(r"( d \d+) \d+$", r"\1", line) for line in listed}
        return {line for line in lines if not NOT_OURS.match(line)}

    def write(self, path, text):
        target = self.path / path.lstrip("/")
        target.write_text(text)


@pytest.fixture(params=["deb", "rpm"])
def kind(request):
    return request.param


def unpack(archive, path):
    subprocess.run(["tar", "-xf", archive, "-C", path, "--exclude=./dev/*"], check=True)
    return Machine(path)


@pytest.fixture
def machine(clean, tmp_path):
    """Give a root in which nothing is installed."""
    yield unpack(clean, tmp_path)
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="session")
def installed(clean, packages, tmp_path_factory):
    """Give a root in which the `.deb` is installed."""
    path = tmp_path_factory.mktemp("installed")
    machine = unpack(clean, path)
    install(machine, "deb", packages("deb")[1])
    yield machine
    shutil.rmtree(path)


def install(machine, kind, package):
    if kind == "deb":
        shutil.copy(package, machine.path / "tmp")
        machine.run("dpkg", "-i", f"/tmp/{package.name}")
    else:
        # The tree has a glibc, but no package that says so.
        rpm(machine, "--nodeps", "-U", str(package))


def rpm(machine, *words):
    command = ["rpm", "--root", machine.path, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed_version(machine, kind):
    if kind == "deb":
        return machine.run("dpkg-query", "-W", "-f", "${Version}", "otelagent")
    return rpm(machine, "-q", "--qf", "%{VERSION}", "otelagent")


def with_rights_of_the_unit():
    """Give the command that leaves a program what the unit leaves it."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    kept = unit["Service"]["CapabilityBoundingSet"].lower().replace("cap_", "+").split()
    return ["setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *kept])]


def keep_samples(machine, *before):
    """Let the agent sample something for a while, as its unit starts it; gives what it said."""
    busy = subprocess.Popen(["sh", "-c", f"while :; do {BUSY}; done"])
    words = (*before, "/usr/bin/otelagent", "agent", "--config", CONFIG, "-p", busy.pid)
    agent = subprocess.Popen(
        machine.command(*words, "--reporter-interval", "500ms"), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 30
        store = machine.path / "var/lib/otelagent"
        while time.monotonic() < deadline and not any(store.glob("*")):
            time.sleep(0.2)
        time.sleep(2)
        agent.send_signal(signal.SIGTERM)
        said = agent.communicate(timeout=30)[1]
    finally:
        busy.kill()
        busy.wait()
    assert agent.returncode == 0, said
    return said


def test_it_is_installed_runs_is_upgraded_and_leaves_nothing(machine, packages, kind):
    old, new = packages(kind)
    if kind == "rpm":
        rpm(machine, "--initdb")
        # RPM systems have these from their package `filesystem`.
        for name in ("zsh/site-functions", "fish/vendor_completions.d"):
            (machine.path / "usr/share" / name).mkdir(parents=True)
    before = machine.files()

    install(machine, kind, old)
    assert installed_version(machine, kind) == "0.0.9"
    assert "works" in machine.run("otelagent", "doctor").splitlines()[0]
    said = machine.run(
        "otelagent", "record", "--force", "-o", "/tmp/x.folded", "--", "sh", "-c", BUSY
    )
    assert re.search(r": [1-9]\d* samples, 0 lost", said)
    assert "(1 samples)" not in keep_samples(machine)
    report = machine.run("otelagent", "report", "/var/lib/otelagent", "--since", "1h")
    assert "100.0%" in report

    machine.write(CONFIG, "samples-per-second: 49\n")
    install(machine, kind, new)
    assert installed_version(machine, kind) != "0.0.9"
    shown = machine.run("otelagent", "config", "show", "--config", CONFIG)
    assert f"{CONFIG}:1" in next(x for x in shown.splitlines() if "samples-per-second" in x)

    if kind == "deb":
        machine.run("dpkg", "-r", "otelagent")
        left = {line.split()[0] for line in machine.files() - before}
        kept = {CONFIG, "/etc/otelagent", "/var/lib/otelagent"}
        assert {x for x in left if not x.startswith("/var/lib/otelagent/")} == kept
        machine.run("dpkg", "-P", "otelagent")
        assert machine.files() == before
    else:
        rpm(machine, "-e", "otelagent")
        left = {line.split()[0] for line in machine.files() - before}
        kept = {CONFIG + ".rpmsave", "/etc/otelagent", "/var/lib/otelagent"}
        assert {x for x in left if not x.startswith("/var/lib/otelagent/")} == kept


def test_the_agent_needs_no_more_than_its_unit_gives(installed):
    # As systemd does it; an abstract name, since the agent has another root.
    name = f"otelagent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        told_where = ("env", f"NOTIFY_SOCKET=@{name}")
        said = keep_samples(installed, *told_where, *with_rights_of_the_unit())
        manager.setblocking(False)
        first = manager.recv(4096).decode()

    assert "READY=1" in first.splitlines()
    assert re.search(r"\([1-9]\d* samples\) attempted", said), said
    assert "CAP_" not in said


def test_the_agent_never_runs_memory_that_it_wrote(installed):
    """What `MemoryDenyWriteExecute=yes` forbids; the Python here sets it, and stays outside."""
    words = installed.command(
        "/usr/bin/otelagent", "record", "--force", "-o", "/tmp/x.html", "--", "sh", "-c", BUSY
    )

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JIT, *words], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r": [1-9]\d* samples, 0 lost", done.stderr)


@pytest.mark.parametrize("told", [None, "/opt/x:/opt/y"])
def test_what_it_starts_has_the_environment_that_it_had(installed, told):
    environ = {"LD_LIBRARY_PATH": told} if told else {}

    plain = installed.run("env", env=environ)
    command = (
        "otelagent",
        "record",
        "-q",
        "--force",
        "-o",
        "/tmp/x.html",
        "--",
        "sh",
        "-c",
        "env >/tmp/env",
    )
    installed.run(*command, env=environ)

    inside = (installed.path / "tmp/env").read_text()
    found = [
        {x for x in said.splitlines() if not re.match("_=|(OLD)?PWD=|SHLVL=", x)}  # of sh
        for said in (plain, inside)
    ]
    assert found[1] == found[0]
    assert any("LD_LIBRARY_PATH" in x for x in found[1]) == bool(told)


def test_names_from_debug_information_are_made_by_a_child(installed):
    """The child is this program again, since there is no `python -m` in a package."""
    source = installed.path / "tmp/x.c"
    source.write_text(
        "static volatile int n;\nint main(void) { for (int i = 0; i < 1 << 29; i++) n += i; }\n"
    )
    subprocess.run(["cc", "-g", "-O1", "-o", source.with_suffix(""), source], check=True)

    installed.run("otelagent", "record", "--force", "-o", "/tmp/x.otlp.json", "--", "/tmp/x")

    assert [*(installed.path / "var/cache/otelagent/symcache").glob("*.symcache")]
    assert "/tmp/x.c" in (installed.path / "tmp/x.otlp.json").read_text()


def test_completions_and_manual_are_where_they_are_looked_for(installed):
    path = "/usr/share/bash-completion/completions/otelagent"
    ask = f"source {path}; COMP_WORDS=(otelagent re); COMP_CWORD=1; _otelagent_completion otelagent"
    ask += "; echo ${COMPREPLY[@]}"

    assert installed.run("bash", "-c", ask).split() == ["record", "report"]
    for shell in ("zsh/vendor-completions/_otelagent", "fish/vendor_completions.d/otelagent.fish"):
        assert "_OTELAGENT_COMPLETE" in (installed.path / "usr/share" / shell).read_text()
    page = installed.path / "usr/share/man/man1/otelagent.1.gz"
    done = subprocess.run(
        ["man", "--warnings", "-l", page], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert "--collection-agent ADDRESS" in done.stdout


def test_the_unit_is_one_that_systemd_takes(installed):
    # The root has no systemd, whose own units this one names.
    shutil.copytree(
        "/lib/systemd/system",
        installed.path / "usr/lib/systemd/system",
        dirs_exist_ok=True,
        symlinks=True,
    )
    command = [
        "systemd-analyze",
        "verify",
        "--man=no",
        f"--root={installed.path}",
        "otelagent.service",
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    ours = [line for line in done.stderr.splitlines() if "otelagent" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_unit_hides_nothing_that_names_the_kernels_functions():
    settings = {line.partition("=")[0] for line in UNIT.read_text().splitlines()}

    assert "CapabilityBoundingSet" in settings
    assert not settings & {"ProtectKernelTunables", "ProtectKernelLogs", "PrivateUsers"}


def test_every_setting_of_the_configuration_is_a_comment_with_its_default(installed):
    text = (installed.path / CONFIG.lstrip("/")).read_text()
    installed.write("/tmp/all.yaml", re.sub(r"(?m)^#(?=[a-z])", "", text))

    assert re.findall(r"(?m)^[^#\n].*", text) == []
    asis = installed.run("otelagent", "config", "show", "--config", CONFIG)
    taken = installed.run("otelagent", "config", "show", "--config", "/tmp/all.yaml")
    values = [[x.partition(" #")[0].rstrip() for x in out.splitlines()] for out in (asis, taken)]
    assert values[0] == values[1]


def test_the_wheel_brings_its_libraries(tmp_path):
    """Installed beside what `.venv` has of other packages."""
    (wheel,) = DIST.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path)
    subprocess.run([*pip, "--disable-pip-version-check", wheel], check=True)
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}

    script = (
        "import otelagent._native as n; print(n.__file__); print(open('/proc/self/maps').read())"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    doctor = subprocess.run(
        [sys.executable, "-m", "otelagent", "doctor"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.startswith(str(tmp_path))
    assert all(f"{tmp_path}/otelagent.libs/{name}" in told for name in ("libbpf", "libelf"))
    assert doctor.returncode == 0, doctor.stderr
