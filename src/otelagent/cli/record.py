# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent record`: sample, then write a profile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from otelagent.cli.sharedoptions import Force, sampling
from otelagent.cli.waits import (  # noqa: TC001 (typer looks at the annotations)
    OffCpuMin,
    OffCpuOnly,
    OffCpuThreshold,
    Wall,
)

if TYPE_CHECKING:
    from otelagent.cli.request import Request

Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write; - is standard output. [default: otelagent-HOST-TIME.html]",
    ),
]
FormatName = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="html, pprof, collapsed, speedscope, otlp, otlp.json, json, md; else by the ending.",
    ),
]


@sampling
def record(
    request: Request,
    output: Output = "",
    format_name: FormatName = "",
    force: Force = False,
    off_cpu: OffCpuOnly = False,
    wall: Wall = False,
    off_cpu_threshold: OffCpuThreshold = None,
    off_cpu_min: OffCpuMin = "",
) -> None:
    """Sample stacks and write a profile; by default a flame graph as HTML.

    Formats by ending: .html, .pb.gz (pprof), .folded or .collapsed,
    .speedscope.json, .otlp, .otlp.json, .json and .md (summaries).
    """
    from otelagent.cli.recorder import run  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.cli.waits import choose_waits  # noqa: PLC0415
    from otelagent.options import Options  # noqa: PLC0415

    waits = choose_waits(off_cpu, wall, off_cpu_threshold, off_cpu_min)
    run(
        replace(
            request,
            output=output,
            format_name=format_name,
            force=force,
            base=Options(on_cpu=not off_cpu, off_cpu=waits),
        )
    )
