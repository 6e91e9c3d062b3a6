# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels that can freeze: told by version, then by the code; made-up kernels."""

import platform
import struct

import pytest

from otelagent.errors import MissingFeature, NotPermitted
from otelagent.kernel import plan
from otelagent.kernel.code import calls, find_functions
from otelagent.kernel.nofault import (
    Kernel,
    has_probe_read_bug,
    is_affected,
    parse_version,
    require_safe_reads,
)

FUNCTION, CHECK, OKAY = 0xFFFF_FFFF_8159_A7B0, 0xFFFF_FFFF_816A_E6F0, 0xFFFF_FFFF_8134_5910
NAMES = {
    "copy_from_user_nofault": (FUNCTION, 64),
    "__check_object_size": (CHECK, 528),
    "nmi_uaccess_okay": (OKAY, 48),
}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def code(*targets, jump=0xE8):
    """A function that calls these, with other instructions between them."""
    made = b"\x0f\x1f\x44\x00\x00\x55"
    for target in targets:
        made += b"\x48\x89\xf5" + bytes([jump])
        made += struct.pack("<i", target - (FUNCTION + len(made) + 4))
    return made.ljust(63, b"\x90") + b"\xc3"


def kernel(release, *targets, build="", functions=NAMES, **options):
    def read(addr, size):
        assert (addr, size) == (FUNCTION, 64)
        return code(*targets, **options)

    return Kernel(release, build, functions=lambda _names: functions, code=read)


def untouchable(release, build="", signature=""):
    """A kernel that must be judged by its version alone."""
    return Kernel(release, build, signature, pytest.fail, pytest.fail)


@pytest.mark.parametrize(
    "release",
    [
        *("4.19.0", "5.10.0-32-cloud-amd64", "5.15.0-91-generic", "5.18.19", "6.1.36"),
        *("6.1.192", "6.3.10-arch1-1", "6.4.0", "6.12.117+deb13", "7.3.4+deb13-cloud-amd64"),
    ],
)
def test_good_versions_are_not_looked_at(release):
    assert not has_probe_read_bug(untouchable(release))
    require_safe_reads(untouchable(release))


@pytest.mark.parametrize(
    "release", ["5.19", "5.19.17", "6.0.0", "6.0.19", "6.1.0", "6.1.35", "6.2.16", "6.3.0", "6.3.9"]
)
def test_bad_versions_without_the_fix_are_refused(release):
    assert has_probe_read_bug(kernel(release, CHECK))

    with pytest.raises(MissingFeature, match=f"Linux {release} can freeze") as caught:
        require_safe_reads(kernel(release, CHECK))

    assert caught.value.exit_status == 69
    assert "--no-kernel-version-check" in caught.value.hint


@pytest.mark.parametrize("jump", [0xE8, 0xE9])
def test_a_fix_that_a_distribution_took_is_seen_in_the_code(jump):
    """The fixed function still calls the check of objects, which now takes no lock."""
    assert not has_probe_read_bug(kernel("6.2.0-39-generic", OKAY, CHECK, jump=jump))
    assert not has_probe_read_bug(kernel("6.2.0", OKAY - 16, CHECK)), "call depth tracking"
    assert has_probe_read_bug(kernel("6.2.0", OKAY + 1, CHECK))
    assert has_probe_read_bug(kernel("6.2.0", OKAY - 64, CHECK))


def test_without_hardened_usercopy_nothing_takes_the_lock():
    functions = {name: at for name, at in NAMES.items() if name != "__check_object_size"}

    assert not has_probe_read_bug(kernel("6.2.0", functions=functions))


def test_the_upstream_version_of_distributions_is_used():
    debian = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-08-01)"
    assert parse_version(Kernel("6.1.0-56-amd64", debian)) == (6, 1, 192)
    assert not has_probe_read_bug(untouchable("6.1.0-56-amd64", debian))
    old = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.27-1 (2023-05-08)"
    assert has_probe_read_bug(kernel("6.1.0-9-amd64", CHECK, build=old))
    ubuntu = Kernel("6.2.0-39-generic", "#40~22", "Ubuntu 6.2.0-39.40~22.04.1-generic 6.2.16\n")
    assert parse_version(ubuntu) == (6, 2, 16)
    assert parse_version(Kernel("6.3-rc1")) == (6, 3, 0)


def test_a_version_that_is_not_understood_is_looked_at():
    assert is_affected(parse_version(Kernel("mine")))
    assert has_probe_read_bug(kernel("mine", CHECK))
    assert not has_probe_read_bug(kernel("mine", OKAY))


def hide(_names):
    raise MissingFeature("the addresses are hidden", hint="sysctl x")


def deny(_addr, _size):
    raise NotPermitted("denied", hint="grant y")


@pytest.mark.parametrize(
    ("asked", "reason", "hint"),
    [
        (Kernel("6.2.1", functions=hide), "hidden", "sysctl x; or, if"),
        (Kernel("6.2.1", functions=lambda _: NAMES, code=deny), "denied", "grant y; or, if"),
        (Kernel("6.2.1", functions=lambda _: {}), "does not have copy_from", "if you know"),
        (
            Kernel("6.2.1", functions=lambda _: dict(list(NAMES.items())[:2])),
            "does not have nmi_uaccess_okay",
            "if you know",
        ),
    ],
    ids=["symbols", "code", "function", "arm64"],
)
def test_what_cannot_be_told_is_not_called_broken(asked, reason, hint):
    with pytest.raises(MissingFeature) as caught:
        require_safe_reads(asked)

    assert "cannot be told" in str(caught.value)
    assert reason in str(caught.value)
    assert "does not mean that the kernel is broken" in str(caught.value)
    assert caught.value.hint.startswith(hint)
    assert caught.value.hint.endswith("--no-kernel-version-check")
    assert caught.value.exit_status == 69


def test_the_check_can_be_left_out(monkeypatch):
    monkeypatch.setattr(plan, "find_offsets", lambda path: path)
    monkeypatch.setattr(plan, "require_safe_reads", lambda: hide(()))

    assert plan.learn("x", check=False) == "x"
    with pytest.raises(MissingFeature):
        plan.learn("x", check=True)


def test_branches_of_arm64_are_understood(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    def branch(at, target, opcode):
        return struct.pack("<I", opcode | (((target - at) >> 2) & 0x3FFFFFF))

    nop = struct.pack("<I", 0xD503201F)
    for opcode in (0x94000000, 0x14000000):
        made = nop + branch(FUNCTION + 4, OKAY, opcode) + nop + b"\0"
        assert calls(made, FUNCTION, OKAY)
        assert not calls(made, FUNCTION, OKAY + 4)
        assert not calls(made, FUNCTION + 4, OKAY)
    assert not calls(nop * 8, FUNCTION, OKAY)


KALLSYMS = b"""ffffffff81000000 T startup_64
ffffffff8159a7b0 T copy_from_user_nofault
ffffffff8159a870 T copy_to_user_nofault
ffffffff8159a870 t alias
ffffffff90000000 D nmi_uaccess_okay
ffffffffa0000000 t nmi_uaccess_okay\t[mod]
bad line
"""


def test_functions_end_where_the_next_symbol_begins():
    assert find_functions(NAMES, KALLSYMS) == {"copy_from_user_nofault": (FUNCTION, 0xC0)}


def test_hidden_addresses_are_told():
    hidden = b"0000000000000000 T copy_from_user_nofault\n0000000000000000 T x\n"

    with pytest.raises(MissingFeature, match="hidden") as caught:
        find_functions(NAMES, hidden)

    assert "kptr_restrict" in caught.value.hint
