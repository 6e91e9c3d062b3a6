# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Record and look at sparse snapshots: `python -m otelagent.coredump --help`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from otelagent.coredump.case import SNAPSHOT, read_expected, run_case, write_expected, write_recipe
from otelagent.coredump.recording import record
from otelagent.errors import AgentError
from otelagent.host.core import CoreImage
from otelagent.host.live import LiveImage
from otelagent.host.snapshot import pack


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m otelagent.coredump", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("record", help="make a case of a process or a core file")
    what = make.add_mutually_exclusive_group(required=True)
    what.add_argument("-p", "--pid", type=int, help="a live process, stopped meanwhile")
    what.add_argument("--core", metavar="FILE", help="a core file")
    make.add_argument("--sysroot", type=Path, help="where the files of the core's process lie")
    make.add_argument("folder", type=Path, help="the case; its last part is its name")
    show = verbs.add_parser("show", help="print the stacks of a case as they come out now")
    show.add_argument("folder", type=Path)
    show.add_argument("--update", action="store_true", help="write them down as what is expected")
    return parser


def save(folder: Path, image: LiveImage | CoreImage, recipe: dict[str, object]) -> None:
    """Make the case of an image.

    Raises:
        AgentError: The image cannot be read.
    """
    snapshot = record(image, is_live=isinstance(image, LiveImage))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SNAPSHOT).write_bytes(pack(snapshot))
    write_expected(folder, run_case(folder).threads)
    write_recipe(folder, recipe)


def _record(options: argparse.Namespace) -> None:
    logging.disable()  # what a trial at leaving something out makes of it
    if options.pid:
        image: LiveImage | CoreImage = LiveImage(options.pid)
        source = " ".join(Path(f"/proc/{options.pid}/cmdline").read_text().split("\0")).strip()
    else:
        image = CoreImage.open(options.core, sysroot=options.sysroot)
        source = f"a core file of {image.core.name}"
    save(options.folder, image, {"program": source, "agreed": "nobody was asked yet"})


def _show(options: argparse.Namespace) -> int:
    outcome = run_case(options.folder)
    print(json.dumps(outcome.threads, indent=1, ensure_ascii=False))  # noqa: T201
    for stray in outcome.strays:
        print(f"not in the snapshot: {stray}", file=sys.stderr)  # noqa: T201
    if options.update:
        write_expected(options.folder, outcome.threads)
        return 0
    return int(outcome.threads != read_expected(options.folder))


def main() -> int:
    """Run a verb; 1 if the stacks are not those that are expected, or nothing could be read."""
    options = _parser().parse_args()
    try:
        if options.verb == "show":
            return _show(options)
        _record(options)
    except (AgentError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
