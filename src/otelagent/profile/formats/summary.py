# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Summaries for machines: `json`, and `md` for language models and issue trackers.

Both hold the figures of the profile, its processes, hottest functions and
hottest stacks; neither can be read back.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from otelagent.profile.figures import figure
from otelagent.profile.formats.collapsed import stack_lines
from otelagent.profile.label import label_process
from otelagent.profile.printable import printable
from otelagent.profile.top import top_functions
from otelagent.waiting import name_of

if TYPE_CHECKING:
    from otelagent.profile.model import Profile

CANNOT_HOLD = ("all but the hottest functions and stacks",)
FUNCTIONS = 100
STACKS = 20
STACK_FRAMES_SHOWN = 12


def utc_time(unix_ns: int) -> str:
    """Format a UNIX time; empty for 0 or one beyond the calendar."""
    try:
        when = datetime.fromtimestamp(unix_ns // 10**9, UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ") if unix_ns else ""


def summarize(profile: Profile) -> dict[str, Any]:
    """Put the profile's main facts into JSON types."""
    total = profile.total

    def share(value: int) -> float:
        return round(100 * value / total, 3) if total else 0.0

    by_process: dict[tuple[int, str], int] = {}
    for _trace, process, _thread, group in profile:
        key = (process.pid, label_process(process))
        by_process[key] = by_process.get(key, 0) + group.value
    processes = sorted(by_process.items(), key=lambda item: -item[1])
    return {
        "format": "otelagent-summary",
        "version": 1,
        "kind": name_of(profile),
        "sample_type": dict(zip(("type", "unit"), profile.sample_type, strict=True)),
        "period_ns": profile.period_ns,
        "start": utc_time(profile.start_unix_ns),
        "duration_s": round(profile.duration_ns / 1e9, 3),
        "host": dict(profile.host),
        "total": total,
        **asdict(figure(profile)),
        "notes": profile.notes,
        "by_process": [
            {"pid": pid, "name": name, "value": value, "percent": share(value)}
            for (pid, name), value in processes
        ],
        "functions": [
            {
                "name": row.label.name,
                "type": row.label.type.value,
                "module": row.label.module,
                "file": row.label.file,
                "self": row.self_value,
                "self_percent": share(row.self_value),
                "total": row.total_value,
                "total_percent": share(row.total_value),
            }
            for row in top_functions(profile, join_unnamed=True)[:FUNCTIONS]
        ],
        "stacks": [
            {"stack": stack.split(";"), "value": value, "percent": share(value)}
            for stack, value in stack_lines(profile).most_common(STACKS)
        ],
    }


def write_json(profile: Profile, stream: BinaryIO) -> None:
    """Write the summary as one JSON object."""
    text = json.dumps(summarize(profile), indent=2, ensure_ascii=False)
    stream.write(text.encode(errors="backslashreplace") + b"\n")


def cell(text: str) -> str:
    """Make a name safe inside a table cell."""
    return re.sub(r"([\\`|<>*_\[\]])", r"\\\1", printable(text)) or " "


def md_head(facts: dict[str, Any]) -> list[str]:
    """Say what was sampled."""
    figures = {
        "samples": facts["samples"],
        "complete stacks": facts["complete"],
        "lost": facts["lost"],
        "with unnamed frames": facts["unresolved"],
        "with guessed frames": facts["guessed"],
        **facts["notes"],
    }
    return [
        f"# {facts['kind'][:1].upper()}{facts['kind'][1:]}",
        "",
        f"- start: {facts['start'] or 'unknown'}",
        f"- duration: {facts['duration_s']} s",
        f"- period: {facts['period_ns']} ns",
        *(f"- {cell(name)}: {value}" for name, value in figures.items()),
        "",
    ]


def md_table(head: str, alignment: str, rows: list[tuple[str, ...]]) -> list[str]:
    """Lay out a table and an empty line."""
    return [head, alignment, *(f"| {' | '.join(row)} |" for row in rows), ""]


def md_stack(names: list[str]) -> str:
    """Show a stack, its middle left out if it is long."""
    if len(names) > STACK_FRAMES_SHOWN:
        names = [*names[:2], "…", *names[3 - STACK_FRAMES_SHOWN :]]
    return " → ".join(map(cell, names))


def write_md(profile: Profile, stream: BinaryIO) -> None:
    """Write the summary as Markdown."""
    facts = summarize(profile)
    processes: list[tuple[str, ...]] = [
        (f"{row['percent']:.1f}", str(row["pid"]), cell(row["name"]))
        for row in facts["by_process"][:STACKS]
    ]
    functions: list[tuple[str, ...]] = [
        (
            f"{row['self_percent']:.1f}",
            f"{row['total_percent']:.1f}",
            cell(row["name"]),
            row["type"],
            cell(row["file"] or row["module"]),
        )
        for row in facts["functions"][: FUNCTIONS // 2]
    ]
    lines = [
        *md_head(facts),
        "## Processes",
        "",
        *md_table("| % | pid | name |", "| ---: | ---: | --- |", processes),
        "## Hottest functions",
        "",
        *md_table(
            "| self % | total % | function | kind | where |",
            "| ---: | ---: | --- | --- | --- |",
            functions,
        ),
        "## Hottest stacks (process, root to leaf)",
        "",
        *(f"- {row['percent']:.1f} %: {md_stack(row['stack'])}" for row in facts["stacks"][:10]),
    ]
    stream.write("\n".join([*lines, ""]).encode(errors="backslashreplace"))
