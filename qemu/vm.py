# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Boot a kernel on this machine's own root, read-only, and run one command in it.

qemu emulates, also where there is a /dev/kvm: nested ones were seen to hang on
instructions that they cannot do. virtiofs shares the root, so the guest
sees this checkout and its `.venv` and needs no image. virtiofsd wants root.

A guest of another kind (arm64) has a root of its own (`arm64.find`) and this checkout.
"""

from __future__ import annotations

import contextlib
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import initrd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fetch import Kernel

ROOT = Path(__file__).resolve().parents[1]
TREE = Path("/srv/otelagent")
"""Where this checkout is in guests whose root is not the host's."""
NO_STATUS = 97
"""Result when the guest said no status: a panic, a hang or a timeout."""
STATUS_MARK = "vm: status="
SOCKET_TIMEOUT_S = 10
# `panic=-1` with `-no-reboot` makes a panic end qemu. Where libraries lie at the same addresses
# in every process, qemu need not translate their code anew: Python starts in a third of the time.
KERNEL_ARGUMENTS = (
    "panic=-1 quiet loglevel=4 mitigations=off random.trust_cpu=on norandmaps "
    "init_on_alloc=0 audit=0 apparmor=0 otelagent.guest"
)
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine, as qemu knows it."""

    qemu: str
    board: str
    cpu: str
    console: str


# A fifth level of page tables costs the emulation 4 %.
X86_64 = Machine("qemu-system-x86_64", "q35", "max,la57=off", "ttyS0")
# It has no pointer authentication; `max` has, and takes twice the time.
ARM64 = Machine("qemu-system-aarch64", "virt", "cortex-a72", "ttyAMA0")
ARM64_SIGNING = Machine("qemu-system-aarch64", "virt", "max,pauth-impdef=on", "ttyAMA0")


@dataclass(frozen=True, slots=True)
class Options:
    """What the guest gets.

    Attributes:
        root: What its root directory is; the host's own as a rule.
        out: A folder of the host, writable at /tmp/out in the guest.
        cache: One that is writable as /var/cache; several guests may share it.
        append: Words for the kernel's command line.
    """

    machine: Machine = X86_64
    root: Path = Path("/")
    cpus: int = 2
    memory_mib: int = 1024
    timeout_s: float = 180
    out: Path | None = None
    cache: Path | None = None
    append: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def guest_script(command: list[str], environment: dict[str, str], tree: Path = ROOT) -> bytes:
    """Write the script that runs the command, says its status and powers off."""
    exports = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
    exports |= {"PYTHONDONTWRITEBYTECODE": "1", **environment}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
    lines.append(f"cd {shlex.quote(str(tree))}")
    lines.append(f"{shlex.join(command)} </dev/null; status=$?")
    lines.append(f'echo "{STATUS_MARK}$status"')
    return "\n".join([*lines, "/run/busybox poweroff -f", ""]).encode()


def virtiofsd_command(socket: Path, source: Path, cache: str) -> list[str]:
    """Build the command line of whichever virtiofsd is here: qemu's own took other options."""
    for path in filter(lambda path: Path(path).exists(), VIRTIOFSD):
        if "qemu" in path:
            options = ["-o", f"source={source}", "-o", "sandbox=chroot", "-o", f"cache={cache}"]
            return [path, f"--socket-path={socket}", *options]
        options = [f"--shared-dir={source}", "--sandbox=chroot"]
        cache = {"none": "never"}.get(cache, cache)
        return [path, f"--socket-path={socket}", *options, f"--cache={cache}"]
    raise FileNotFoundError(f"virtiofsd is not installed (looked for {', '.join(VIRTIOFSD)})")


@contextlib.contextmanager
def share(folder: Path, tag: str, source: Path, cache: str) -> Iterator[list[str]]:
    """Share a folder of the host; yields qemu's arguments for it."""
    socket = folder / f"{tag}.sock"
    with (folder / f"{tag}.log").open("wb") as log:
        daemon = subprocess.Popen(virtiofsd_command(socket, source, cache), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SOCKET_TIMEOUT_S
        while not socket.exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"virtiofsd: {(folder / f'{tag}.log').read_text().strip()}")
            time.sleep(0.01)
        device = f"vhost-user-fs-pci,chardev={tag},tag={tag}"
        yield ["-chardev", f"socket,id={tag},path={socket}", "-device", device]
    finally:
        daemon.kill()
        daemon.wait()


def qemu_command(kernel: Kernel, initramfs: Path, options: Options) -> list[str]:
    """Build qemu's command line but for the shares."""
    # One thread for all processors: those that run side by side patch code under one another,
    # and a kernel that switches a static key then dies of a breakpoint that is no longer there.
    memory = f"memory-backend-memfd,id=mem,size={options.memory_mib}M,share=on"
    machine = options.machine
    arguments = f"console={machine.console} {KERNEL_ARGUMENTS} {options.append}".rstrip()
    return [
        *(machine.qemu, "-M", machine.board, "-cpu", machine.cpu),
        *("-accel", "tcg,thread=single", "-smp", str(options.cpus)),
        *("-m", str(options.memory_mib), "-object", memory, "-machine", "memory-backend=mem"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", arguments),
    ]


def follow(command: list[str], timeout_s: float, log: Path, show: Callable[[str], None]) -> int:
    """Run qemu to its end, pass each line of the console on, and return the guest's status."""
    status = NO_STATUS
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        ) as qemu,
    ):
        timer = threading.Timer(timeout_s, qemu.kill)
        timer.start()
        try:
            for raw in qemu.stdout or ():
                if status != NO_STATUS:
                    continue  # the kernel powers off and says so
                line = raw.decode(errors="replace").rstrip("\r\n")
                # The command's last line may lack its end.
                line, mark, rest = line.partition(STATUS_MARK)
                if mark:
                    status = int(rest)
                if line or not mark:
                    show(line)
        finally:
            timed_out = not timer.is_alive()
            timer.cancel()
            qemu.kill()
    if status == NO_STATUS:
        reason = f"no end within {timeout_s:.0f} s" if timed_out else "the guest ended early"
        show(f"vm: {reason} {log.read_text(errors='replace').strip()}")
    return status


def run(
    kernel: Kernel, command: list[str], options: Options, show: Callable[[str], None] = print
) -> int:
    """Boot, run the command in this checkout, and return its status, or `NO_STATUS`."""
    # What ends us must end qemu and virtiofsd too: leave through the `finally`s.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    tree = ROOT if options.root == Path("/") else TREE
    # tag: folder of the host, place in the guest, what virtiofsd may cache
    shares = {
        "tree": (None if tree == ROOT else ROOT, str(tree).lstrip("/"), "always"),
        "out": (options.out, "tmp/out", "none"),
        "cache": (options.cache, "var/cache", "auto"),
    }
    wanted = {tag: share for tag, share in shares.items() if share[0]}
    places = " ".join(f"{tag}:{place}" for tag, (_, place, _) in wanted.items())
    job = f"FOLDER={shlex.quote(str(tree))}\nSHARES={shlex.quote(places)}\n"
    files = {"job": job.encode(), "guest.sh": guest_script(command, options.environment, tree)}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otelagent-vm-")))
        initramfs = folder / "initramfs"
        busybox = options.root / "bin/busybox"
        initramfs.write_bytes(initrd.build(kernel.modules, files, busybox))
        qemu = qemu_command(kernel, initramfs, options)
        qemu += stack.enter_context(share(folder, "hostroot", options.root, "always"))
        for tag, (source, _, cache) in wanted.items():
            source.mkdir(parents=True, exist_ok=True)
            qemu += stack.enter_context(share(folder, tag, source.resolve(), cache))
        status = follow(qemu, options.timeout_s, folder / "qemu.log", show)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    show(f"vm: {used.ru_utime + used.ru_stime:.0f} s of CPU")
    return status
