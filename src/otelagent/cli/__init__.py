# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per command, imported when it is used."""


def main() -> None:
    """Run the command line."""
    try:
        from otelagent.cli.main import main as run  # noqa: PLC0415 (importing the package is cheap)

        run()
    except KeyboardInterrupt:  # before there was anything to end
        raise SystemExit(130) from None
