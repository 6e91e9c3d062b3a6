# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Code that takes the place of other code: what BPF remembers of an address has to go."""

from __future__ import annotations

import subprocess

import pytest

from integration.recording import build_c, record

SOURCE = """
__attribute__((noinline)) static long {name}_spin(long rounds)
{{
	volatile char pad[{bytes}];

	for (long i = 0; i < rounds; i++)
		pad[i % {bytes}] = i;
	return pad[0];
}}

__attribute__((aligned(512))) long work_{name}(long rounds)
{{
	volatile char pad[{bytes}];

	pad[1] = {name}_spin(rounds);
	return pad[1];
}}
"""


def build_library(folder, name, frame_bytes):
    """Two functions whose code is as long in each library, and whose frames differ in size."""
    target = folder / f"{name}.so"
    flags = ["-O1", "-shared", "-fPIC", "-fomit-frame-pointer", "-fno-stack-protector"]
    source = SOURCE.format(name=name, bytes=frame_bytes)
    command = ["cc", *flags, "-Wl,-z,separate-code", "-xc", "-", "-o", target]
    subprocess.run(command, input=source, text=True, check=True)
    symbols = subprocess.check_output(["nm", "--defined-only", target], text=True)
    (line,) = [line for line in symbols.splitlines() if line.endswith(f"work_{name}")]
    return target, line.split()[0]


@pytest.mark.needs("tool:nm")
@pytest.mark.parametrize("options", [(), ("-F", "999")], ids=["99 Hz", "999 Hz"])
def test_code_that_replaces_other_code_is_unwound_and_named_as_what_it_is(tmp_path, options):
    (small, offset), (large, same) = (
        build_library(tmp_path, "small", 512),
        build_library(tmp_path, "large", 2048),
    )
    assert offset == same
    program = build_c(tmp_path, "remap")

    recorded = record(tmp_path, *options, "--", str(program), "5", offset, str(small), str(large))

    shares = [recorded.share("main", f"work_{name}", f"{name}_spin") for name in ("small", "large")]
    assert all(0.2 < share < 0.8 for share in shares), shares
    # The rest is of the moments before the kernel's news of the mapping was read.
    assert sum(shares) > 0.75, recorded.stacks
    assert recorded.complete_percent > 85, recorded.said
