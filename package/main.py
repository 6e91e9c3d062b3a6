# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The packages' `otelagent`: as `python -m otelagent`, without a Python on the machine.

The loader that starts this has changed the environment for itself; nothing that we start, and
nothing that we look at, may see that. With `-P -m MODULE` it runs another module of ours, as
Python would: so children need not know how they are shipped.
"""

import os
import runpy
import sys


def restore_environment() -> None:
    """Take back what the loader changed: it had its effect when this process began."""
    told = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    os.environ.pop("LD_LIBRARY_PATH", None)
    if told is not None:
        os.environ["LD_LIBRARY_PATH"] = told
    for name in [name for name in os.environ if name.startswith("_PYI_")]:
        del os.environ[name]


def main() -> None:
    """Run the command line, or the module that `-P -m` names."""
    restore_environment()
    match sys.argv[1:]:
        case ["-P", "-m", module, *rest] if module.startswith("otelagent."):
            sys.argv[1:] = rest
            runpy.run_module(module, run_name="__main__")
        case _:
            from otelagent.cli import main as run  # noqa: PLC0415 (not for children)

            run()


main()
