#!/usr/bin/env python3
# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Run a command under another kernel: `python qemu/run.py --kernel 6.1 -- uname -r`.

The guest has this machine's root, read-only, with /tmp, /run, /var/tmp and
/var/cache of its own. The status is the command's, or 97 when the guest said none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import arm64
import fetch
import vm


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", default="newest", help="a series, `newest`, or an image's path")
    parser.add_argument("--arm64", action="store_true", help="a guest of arm64, with its own root")
    parser.add_argument("--signing", action="store_true", help="arm64: with pointer authentication")
    parser.add_argument("--modules", type=Path, help="lib/modules/RELEASE of an image")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    parser.add_argument("--timeout", type=float, default=180, metavar="SECONDS")
    parser.add_argument("--out", type=Path, help="folder that is writable at /tmp/out in the guest")
    parser.add_argument("--cache", type=Path, help="folder to be the guest's /var/cache")
    parser.add_argument("--append", default="", metavar="WORDS", help="for the kernel")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser.parse_args()


def main() -> int:
    """Boot and run."""
    arguments = parse_arguments()
    image = Path(arguments.kernel)
    try:
        if image.is_file():
            kernel = fetch.Kernel(image.parent.name, image, arguments.modules)
        else:
            kernel = fetch.fetch(arguments.kernel, "arm64" if arguments.arm64 else "amd64")
        root = arm64.find() if arguments.arm64 else Path("/")
    except fetch.NoKernel as error:
        sys.exit(f"qemu/run.py: {error}")
    machine = vm.X86_64
    if arguments.arm64:
        machine = vm.ARM64_SIGNING if arguments.signing else vm.ARM64
    options = vm.Options(
        machine=machine,
        root=root,
        cpus=arguments.cpus,
        memory_mib=arguments.memory,
        timeout_s=arguments.timeout,
        out=arguments.out,
        cache=arguments.cache,
        append=arguments.append,
        environment=dict(pair.split("=", 1) for pair in arguments.env),
    )
    return vm.run(kernel, arguments.command, options)


if __name__ == "__main__":
    sys.exit(main())
