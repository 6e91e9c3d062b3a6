# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Examples of each command: the end of its --help, and a part of the manual."""

from __future__ import annotations

EXAMPLES = {
    "record": (
        ("record -- python3 app.py", "a command, to a flame graph (HTML)"),
        ("record -p 4711 -d 30s -o cpu.pb.gz", "30 s of a process, as pprof"),
        ("record --wall -p 4711 -d 1m", "where it runs, and where it waits"),
        ("record --all -d 10s -f collapsed -o - | less", "the machine, as text"),
    ),
    "top": (
        ("top -p 4711", "a process, until q"),
        ("top --all", "the whole machine"),
        ("top --all -d 1m --interval 10s > log", "a table each 10 s"),
    ),
    "agent": (
        ("agent", "keep profiles in /var/lib/otelagent"),
        ("report /var/lib/otelagent --since 1h", "look at the last hour of it"),
        ("agent --collection-agent host:4317", "send them by gRPC, with TLS"),
        ("agent --collection-agent http://host:4318", "send them by HTTP"),
        ("agent --config /etc/otelagent/otelagent.yaml", "as the service does"),
    ),
    "dump": (
        ("dump -p 4711", "every thread, now"),
        ("dump -p 4711 --no-native", "its Python functions alone"),
        ("dump --core core.4711.zst --debug-dir debug", "a core file"),
    ),
    "report": (
        ("report cpu.otlp", "a table"),
        ("report cpu.otlp -o cpu.html", "a flame graph of it"),
        ("report /var/lib/otelagent --since 1h", "an hour of the agent's store"),
    ),
    "diff": (
        ("diff before.otlp after.otlp", "a table"),
        ("diff before.otlp after.otlp -o diff.html", "a flame graph"),
        ("diff /var/lib/otelagent --since 10m", "against the 10 minutes before"),
    ),
    "doctor": (
        ("doctor", "what works, and what does not"),
        ("doctor --bundle doctor.tar.gz", "for a report of a defect"),
    ),
    "elf": (
        ("elf /usr/bin/python3", "its identity, and its unwind rows"),
        ("elf /usr/bin/python3 0x4012a0", "what is known of an address"),
    ),
    "config show": (
        ("config show", "all settings, and where each comes from"),
        ("config show --config agent.yaml", "does the file say what is meant?"),
    ),
}
"""By command: arguments of `otelagent`, and what they do."""


def epilogue(command: str) -> str:
    """Give the end of a command's --help."""
    lines = ["\b", "Examples:"]  # the first lets the lines stay as they are
    for words, text in EXAMPLES[command]:
        lines += [f"  otelagent {words}", f"      {text}"]
    return "\n".join(lines)
