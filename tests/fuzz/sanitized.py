# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a script with another `otelagent._native`: `sanitized.py EXTENSION SCRIPT …`."""

import importlib.util
import runpy
import sys
from importlib.machinery import ExtensionFileLoader

NAME = "otelagent._native"


def load(path: str) -> None:
    """Load an extension before anybody imports the installed one."""
    spec = importlib.util.spec_from_loader(NAME, ExtensionFileLoader(NAME, path))
    assert spec
    assert spec.loader
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])


if __name__ == "__main__":
    load(sys.argv[1])
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
