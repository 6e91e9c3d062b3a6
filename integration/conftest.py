# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Skips name what is missing, never a version.

    @pytest.mark.needs("bpf_loop", "tool:clang")

The names are the fields of `KernelFeatures`, `tool:` and a program on PATH, or
`guest`: a machine of our own, whose whole system may be profiled.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from otelagent.config.environment import PREFIX
from otelagent.kernel.features import has_feature

FOR_US = {"FEATURES", "LACKS", "RECEIVERS_SECONDS", "WHOLE"}


def pytest_configure(config):
    # The rest is for `make qemu`, or for an agent of the user's.
    for name in list(os.environ):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in FOR_US:
            del os.environ[name]
    config.addinivalue_line("markers", "needs(*features): skip where a feature is missing")


def is_there(name):
    """Tell whether a feature or tool is there; an unknown name is a mistake in the test."""
    if name == "guest":
        # The whole system is profiled only where it is ours: qemu/vm.py boots with this word.
        return "otelagent.guest" in Path("/proc/cmdline").read_text()
    if name.startswith("tool:"):
        return shutil.which(name.removeprefix("tool:")) is not None
    return has_feature(name)


def expected(variable):
    """Read what the matrix of kernels says of this one (qemu/kernels.toml); else nothing."""
    return [name for name in os.environ.get(variable, "").split(",") if name]


def pytest_runtest_setup(item):
    if os.geteuid():
        pytest.skip("needs root")
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            if not is_there(name):
                if name in expected("OTELAGENT_FEATURES"):
                    pytest.fail(
                        f"{name} must be there on this kernel, and the probe does not see it"
                    )
                pytest.skip(f"needs {name}")
