# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from otelagent.bpf.verifier import parse_log

REFUSED = """\
libbpf: prog 'on_tick': BPF program load failed: Permission denied
libbpf: prog 'on_tick': -- BEGIN PROG LOAD LOG --
func#0 @0
0: R1=ctx(off=0,imm=0) R10=fp0
; u64 task = bpf_get_current_task();
0: (85) call bpf_get_current_task#35  ; R0_w=scalar()
1: (b7) r1 = 1                        ; R1_w=1
; return *(u64 *)task;
2: (79) r0 = *(u64 *)(r0 +0)
R0 invalid mem access 'scalar'
processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
-- END PROG LOAD LOG --
libbpf: prog 'on_tick': failed to load: -13
libbpf: failed to load object 'x.bpf.o'
"""


def test_program_error_and_source_line_are_found():
    told = parse_log(REFUSED)

    assert told.program == "on_tick"
    assert told.lines[-1] == "R0 invalid mem access 'scalar'"
    assert "; return *(u64 *)task;" in told.lines
    assert len(told.lines) <= 7


def test_a_source_line_far_above_the_error_is_kept():
    steps = "\n".join(f"{at}: (b7) r1 = {at}" for at in range(2, 300))
    log = REFUSED.replace("2: (79) r0 = *(u64 *)(r0 +0)", steps)

    told = parse_log(log)

    assert told.lines[0] == "; return *(u64 *)task;"
    assert told.lines[-1] == "R0 invalid mem access 'scalar'"


def test_a_log_cut_at_its_start_still_tells():
    told = parse_log(REFUSED[REFUSED.index("0: (85)") :])

    assert told.lines[-1] == "R0 invalid mem access 'scalar'"


def test_a_refused_map_is_named():
    log = "libbpf: Error in bpf_create_map_xattr(rows):Invalid argument(-22). Retrying\n"
    log += "libbpf: map 'rows': failed to create: Invalid argument(-22)\n"

    told = parse_log(log)

    assert (told.program, told.map_name) == ("", "rows")
    assert told.lines[-1] == "map 'rows': failed to create: Invalid argument(-22)"


def test_an_empty_log_says_nothing():
    assert parse_log("").lines == ()


def test_the_explanation_of_newest_kernels_does_not_hide_the_error():
    explanation = "\n\nVerification failed: Register Type Safety\n\nReason:\n  R0 is an integer\n"
    log = REFUSED.replace("'scalar'\n", "'scalar'" + explanation)

    assert parse_log(log).lines == parse_log(REFUSED).lines
