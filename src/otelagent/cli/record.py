# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent record`: sample, then write a profile."""

from __future__ import annotations

from otelagent import options
from otelagent.cli.recordoptions import (  # noqa: TC001 (typer looks at the annotations)
    BtfPath,
    Cgroups,
    Command,
    Debuginfod,
    Duration,
    Event,
    Everything,
    Force,
    FormatName,
    Frequency,
    MaxFrames,
    NoSymbols,
    NoVersionCheck,
    Output,
    Pids,
    Quiet,
    Verbose,
)
from otelagent.cli.waits import (  # noqa: TC001
    OffCpuMin,
    OffCpuOnly,
    OffCpuThreshold,
    Wall,
)


def record(
    command: Command = None,
    pid: Pids = None,
    cgroup: Cgroups = None,
    everything: Everything = False,
    frequency: Frequency = 99,
    duration: Duration = "",
    output: Output = "",
    format_name: FormatName = "",
    event: Event = "cpu-clock",
    max_frames: MaxFrames = options.DEFAULT_FRAMES,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    no_symbols: NoSymbols = False,
    debuginfod: Debuginfod = "",
    btf_path: BtfPath = None,
    no_kernel_version_check: NoVersionCheck = False,
    off_cpu: OffCpuOnly = False,
    wall: Wall = False,
    off_cpu_threshold: OffCpuThreshold = None,
    off_cpu_min: OffCpuMin = "",
) -> None:
    """Sample stacks and write a profile; by default a flame graph as HTML.

    Formats by ending: .html, .pb.gz (pprof), .folded or .collapsed,
    .speedscope.json, .otlp, .otlp.json, .json and .md (summaries).
    """
    from otelagent import log  # noqa: PLC0415 (--help imports nothing heavy)
    from otelagent.cli.recorder import run  # noqa: PLC0415
    from otelagent.cli.request import Request  # noqa: PLC0415
    from otelagent.cli.waits import choose_waits  # noqa: PLC0415
    from otelagent.options import Options  # noqa: PLC0415

    log.configure(verbose)
    run(
        Request(
            command=tuple(command or ()),
            pids=tuple(pid or ()),
            cgroups=tuple(cgroup or ()),
            everything=everything,
            frequency_hz=frequency,
            duration=duration,
            output=output,
            format_name=format_name,
            event=event,
            max_frames=max_frames,
            force=force,
            quiet=quiet,
            verbose=verbose,
            symbols=not no_symbols,
            debuginfod=debuginfod,
            btf_path=btf_path,
            check_kernel=not no_kernel_version_check,
            base=Options(
                on_cpu=not off_cpu,
                off_cpu=choose_waits(off_cpu, wall, off_cpu_threshold, off_cpu_min),
            ),
        )
    )
