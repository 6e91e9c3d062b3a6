# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent doctor`: what works on this machine, what does not, and what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from otelagent.cli.sharedoptions import (  # noqa: TC001 (typer looks at the annotations)
    BtfPath,
    Force,
)

Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 where it works, but reduced.")]
Bundle = Annotated[
    str,
    typer.Option("--bundle", metavar="FILE", help="Also write a .tar.gz for support; no secrets."),
]


def doctor(
    json: Json = False,
    strict: Strict = False,
    bundle: Bundle = "",
    force: Force = False,
    btf_path: BtfPath = None,
) -> None:
    """Try what profiling needs on this machine, and say what is missing and how to get it.

    Exit status: 0 it works, also reduced; 69 it cannot; 77 not allowed to probe.
    """
    from otelagent import log  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.doctor.bundle import report_json, write_bundle  # noqa: PLC0415
    from otelagent.doctor.examine import examine  # noqa: PLC0415
    from otelagent.doctor.report import Verdict  # noqa: PLC0415
    from otelagent.doctor.screen import lines  # noqa: PLC0415
    from otelagent.profile.output import check_output, write_output  # noqa: PLC0415

    log.configure(0)
    if bundle:
        check_output(bundle, force=force)
    report = examine(btf_path)
    if bundle:
        write_output(bundle, lambda stream: write_bundle(report, stream), force=force)
    typer.echo(report_json(report).decode() if json else "\n".join(lines(report)), nl=not json)
    status = {Verdict.CANNOT: 69, Verdict.NOT_PERMITTED: 77, Verdict.REDUCED: int(strict)}
    raise typer.Exit(status.get(report.verdict, 0))
