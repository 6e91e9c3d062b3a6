# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from otelagent.bpf.verifier import Statistics, parse_statistics

LOG = """libbpf: prog 'unwind_native': -- BEGIN PROG LOAD LOG --
verification time 1684 usec
stack depth 240+72
processed 135883 insns (limit 1000000) max_states_per_insn 25 total_states 9
-- END PROG LOAD LOG --
libbpf: prog 'on_fork': -- BEGIN PROG LOAD LOG --
processed 79 insns (limit 1000000) max_states_per_insn 0
-- END PROG LOAD LOG --
libbpf: prog 'cut': -- BEGIN PROG LOAD LOG --
-- END PROG LOAD LOG --
"""


def test_each_program_has_its_counts():
    assert parse_statistics(LOG) == [
        Statistics("unwind_native", 135883, 1_000_000, 1684, 312),
        Statistics("on_fork", 79, 1_000_000, 0, 0),
    ]
    assert parse_statistics("") == []


def test_deepest_chain_of_calls_is_told_by_newer_kernels():
    """Lines of a 7.3 kernel."""
    log = """libbpf: prog 'unwind_python': -- BEGIN PROG LOAD LOG --
verification time 698183 usec
stack depth max 256
subprog 0 (unwind_python) main insns_self 880 insns_total 880 stack 8
subprog 1 (python_bounded_step) global insns_self 11078 insns_total 11078 stack 232
processed 11958 insns (limit 1000000) max_states_per_insn 7 total_states 696
-- END PROG LOAD LOG --
"""

    assert parse_statistics(log) == [Statistics("unwind_python", 11958, 1_000_000, 698183, 256)]
