/* Copyright The otelagent authors */
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OA_ABI_H
#define OA_ABI_H

/* Everything that crosses the border between BPF, the C core and Python, and
 * nothing else. BPF C and the host build include it, cffi parses it, and
 * otelagent/abi/_generated.py is made from its enumerators and their comments.
 *
 * Rules: only u8…u64 / s8…s64, fixed arrays and nested structs; padding is
 * written out; constants are enumerators; no attributes.
 */

/* Fixed sizes. */
enum oa_limit {
	OA_MAX_KERNEL_FRAMES =
		127, /* what bpf_get_stack returns at most (kernel.perf_event_max_stack) */
	OA_DEFAULT_USER_FRAMES = 128, /* user frames of a trace unless asked for otherwise */
	OA_MAX_USER_FRAMES = 1024, /* the most user frames that can be asked for */
	OA_TRACE_WORDS = 2175, /* OA_MAX_KERNEL_FRAMES + 2 * OA_MAX_USER_FRAMES */
	OA_MAX_STACK_BYTES = 65536, /* user stack bytes in a deferred stack, of one or two stacks */
	OA_COPY_BYTES = 114688, /* and behind them up to 48 KiB of Python frames */
	OA_MAX_PYTHON_COPIES = 352, /* of at most as many */
	OA_DEEP_BYTES = 131072, /* what follows on such a stack, in a record of its own */
	OA_DEEP_TOP_BYTES = 65536, /* and, with it, up to where the thread began */
	OA_RED_ZONE_BYTES = 128, /* below the stack pointer, still valid (x86-64 psABI 3.2.2) */
	OA_STACK_PAGE_BYTES = 4096, /* a deferred stack is read in pieces of this size */
	OA_NEAR_KNOWN = 128, /* hashes of known traces that each CPU keeps at hand */
	OA_KNOWN_WAYS = 8, /* hashes in one set of the known-trace table: one cache line */
	OA_PAGE_BITS = 16, /* rows are kept by pages of 64 KiB of ELF address space */
	OA_CHUNK_BYTES = 2097152, /* bytes of rows in one chunk of the pool */
	OA_CHUNK_ROWS = 524288, /* rows in one chunk */
	OA_MAX_CHUNKS = 256, /* chunks in the pool */
	OA_MAX_RULES = 32768, /* distinct rules: the row's index has 15 bits */
	OA_SEARCH_STEPS = 17, /* steps of the row search: a page holds at most 65,536 rows */
	OA_GP_REGS = 32, /* general registers, by DWARF number */
	OA_MAX_CGROUPS = 16, /* cgroups that may be targets at once */
	OA_LIMIT_SLOTS = 4096, /* slots of rate limits */
	OA_CALIBRATION_SLOTS = 8, /* ticks that calibration keeps */
	OA_CALIBRATION_STEP = 1024, /* task_struct is copied in pieces of this size */
	OA_CODE_STEP = 64, /* code of the kernel is copied in pieces of this size */
	OA_FP_WINDOW_BYTES = 524288, /* a frame pointer may rise by this much in one step */
	OA_PY_STATES = 4, /* CPython thread states that one thread may have (subinterpreters) */
	OA_PY_WALK = 16, /* CPython thread states looked at in BPF when the map has none */
};

/* Registers by their DWARF numbers (System V ABI x86-64 fig. 3.36; AADWARF64). */
enum oa_reg {
	OA_X86_RBX =
		3, /* x86-64: callee-saved; the dynamic linker's trampolines keep the CFA in it */
	OA_X86_RBP = 6, /* x86-64 frame pointer */
	OA_X86_RSP = 7, /* x86-64 stack pointer */
	OA_ARM_FP = 29, /* arm64 frame pointer */
	OA_ARM_LR = 30, /* arm64 link register */
	OA_ARM_SP = 31, /* arm64 stack pointer */
};

/* What owns an address: index into the tail-call table. */
enum oa_unwinder {
	OA_UNWINDER_NATIVE, /* machine code unwound by rows */
	OA_UNWINDER_PYTHON, /* the CPython eval loop */
	OA_UNWINDER_STOP, /* ends the trace */
	OA_UNWINDER_COUNT, /* how many there are */
};

/* What a user frame is. */
enum oa_frame_kind {
	OA_FRAME_NATIVE, /* file_or_object: FileID's first 64 bits; addr: ELF address */
	OA_FRAME_PYTHON, /* see python.h: code object, its check and the instruction offset */
	OA_FRAME_ANON, /* executable memory without a file: addr is the process's own address */
	OA_FRAME_NOWHERE, /* no code: a null or wild pointer was called; addr is the process's own
			   */
};

/* Flags of a frame, as bit numbers above the kind: bit 56 + n of `addr`. */
enum oa_frame_flag {
	OA_FRAME_RETURN_BIT, /* the address is a return address: the call is before it */
	OA_FRAME_GUESSED_BIT, /* found by the frame pointer, not by a row */
	OA_FRAME_BEGIN_BIT, /* it is returned to, but no call is before it: a function begins there
			     */
};

struct oa_frame {
	u64 file_or_object; /* by kind */
	u64 addr; /* low 48 bits by kind; bits 48-55 oa_frame_kind; bits 56-63 oa_frame_flag */
};

/* Why a stack ends before its first frame. The comment is the help text of the counter. */
enum oa_fault {
	OA_FAULT_NONE, /* the stack was walked to its first frame */
	OA_FAULT_NO_MAPPING, /* a return address lies in no known executable mapping */
	OA_FAULT_NO_ROW, /* no unwind row covers the address, and the frame pointer did not help */
	OA_FAULT_BAD_RULE, /* the row names a rule that is not there */
	OA_FAULT_UNSUPPORTED, /* the call frame information uses an expression that is not supported
			       */
	OA_FAULT_LEAF_REGISTER, /* the rule needs a register that is only known in the newest frame
				 */
	OA_FAULT_READ_STACK, /* a stack slot could not be read */
	OA_FAULT_STACK_DIRECTION, /* the caller's stack pointer is below the callee's */
	OA_FAULT_ZERO_PC, /* the return address is zero */
	OA_FAULT_KERNEL_PC, /* the return address is a kernel address */
	OA_FAULT_MAX_FRAMES, /* there are more user frames than asked for */
	OA_FAULT_MAX_STEPS, /* the budget of steps or tail calls is spent */
	OA_FAULT_NO_SCRATCH, /* no scratch memory for this CPU: a CPU number beyond the map */
	OA_FAULT_NOT_64_BIT, /* the thread runs 32-bit code */
	OA_FAULT_DEFERRED_LIMIT, /* code not loaded yet, and too many deferred stacks already */
	OA_FAULT_DEFERRED_CUT, /* a deferred stack is deeper than its copy */
	OA_FAULT_PY_NO_THREAD, /* no CPython thread state was found for this thread */
	OA_FAULT_PY_READ, /* a CPython object could not be read */
	OA_FAULT_PY_CHAIN, /* the CPython frame chain does not end where it should */
	OA_FAULT_PY_NOT_ATTACHED, /* sampled before its CPython was known: C frames of the eval
				   * loop are there, its Python frames are not */
	OA_FAULT_COUNT, /* how many there are */
};

/* Counters kept by BPF, in struct oa_cpu; after them come the faults (OA_COUNTER_COUNT + fault).
 * Those that each sample adds to come first: they share a line of the cache.
 */
enum oa_counter {
	OA_COUNTER_TICKS, /* interruptions of a target by the sampling event */
	OA_COUNTER_SAMPLES, /* samples sent: known, new and deferred ones */
	OA_COUNTER_FRAMES, /* user frames pushed */
	OA_COUNTER_STEPS, /* unwinding steps */
	OA_COUNTER_LOOKUPS, /* map look-ups of the unwinders */
	OA_COUNTER_TRACES, /* new traces sent */
	OA_COUNTER_DEFERRED, /* deferred stacks sent */
	OA_COUNTER_DEEP, /* deferred stacks of which more than 64 KiB were sent */
	OA_COUNTER_LOST_SAMPLE, /* samples lost: ring full */
	OA_COUNTER_LOST_TRACE, /* samples with a new trace lost: ring full */
	OA_COUNTER_LOST_DEFERRED, /* deferred stacks lost: ring full */
	OA_COUNTER_LOST_REPORT, /* process reports lost: ring full */
	OA_COUNTER_LOST_INTERNAL, /* samples lost: no scratch for the CPU, or a tail call failed */
	OA_COUNTER_REPORTS, /* process reports sent */
	OA_COUNTER_REPORTS_LIMITED, /* process reports left out by the rate limit */
	OA_COUNTER_KERNEL_ONLY, /* samples of threads without user memory */
	OA_COUNTER_KERNEL_CUT, /* kernel stacks as deep as can be read: more may be missing */
	OA_COUNTER_GUESSED, /* frames found by the frame pointer, and ends told by it */
	OA_COUNTER_TARGETS_FULL, /* children not followed: the target map is full */
	OA_COUNTER_FORKS_FULL, /* children that do not begin with what is known of their parent: a
				* map is full */
	OA_COUNTER_SWITCHES, /* times that a target left a CPU and was to be followed */
	OA_COUNTER_SWITCHES_NS, /* time spent on them */
	OA_COUNTER_WAITS_SHORT, /* waits left out since they were short */
	OA_COUNTER_LOST_END, /* waits lost: it was not told that the thread was back on a CPU */
	OA_COUNTER_LOST_WAIT, /* waits lost: too many threads wait at once */
	OA_COUNTER_COUNT, /* how many there are */
};

/* The beginning of a CPU's record in the map `states`: what user space shares with BPF. */
struct oa_cpu {
	u64 epoch; /* user space changes it after it took code away (bpf/records.py) */
	u64 counters[OA_COUNTER_COUNT + OA_FAULT_COUNT]; /* faults from OA_COUNTER_COUNT on */
};

/* Kinds of records in the ring. */
enum oa_record_kind {
	OA_RECORD_SAMPLE = 1, /* struct oa_sample: a sample of a trace that was sent before */
	OA_RECORD_TRACE, /* struct oa_trace, then its words: a sample with its trace */
	OA_RECORD_DEFERRED, /* struct oa_deferred: a sample to be unwound in user space */
	OA_RECORD_REPORT, /* struct oa_report: a process needs attention */
	OA_RECORD_DEEP, /* struct oa_deep: more of the next deferred stack of this CPU */
	OA_RECORD_STACK, /* as OA_RECORD_TRACE, but no sample: a thread begins to wait with it */
	OA_RECORD_WAITED, /* struct oa_sample: a wait whose stack was deferred is over; `hash` is
			   * when it began (time_ns of the deferred stack) */
};

/* Flags of a sample, as bit numbers. */
enum oa_sample_flag {
	OA_SAMPLE_USER_BIT, /* the thread has user registers */
	OA_SAMPLE_GUESSED_BIT, /* its trace has a guessed frame, or a guessed end */
	OA_SAMPLE_FAULT_BIT, /* its trace ends with a fault */
	OA_SAMPLE_INTERP_BIT, /* its trace has frames of an interpreter */
	OA_SAMPLE_OFF_CPU_BIT, /* the thread left the CPU with this trace; `weight` is ns until it
				* was on one again */
	OA_SAMPLE_WAIT_BIT = 8, /* three bits: enum oa_wait */
};

/* Why a thread is not on a CPU. */
enum oa_wait {
	OA_WAIT_UNKNOWN, /* this kernel does not tell */
	OA_WAIT_SLEEPING, /* until something happens, or a signal comes (S) */
	OA_WAIT_BLOCKED, /* and no signal ends it: mostly for a disk (D) */
	OA_WAIT_STOPPED, /* by a signal or a debugger (T, t) */
	OA_WAIT_PREEMPTED, /* it could run: another thread had the CPU (R) */
};

struct oa_sample {
	u64 hash; /* of kernel frames, user frames and the process's generation; never 0 */
	u64 time_ns; /* CLOCK_MONOTONIC */
	u64 weight; /* ns of the period, or events */
	u32 pid; /* thread group id, as the first pid namespace sees it */
	u32 tid;
	u16 kind; /* enum oa_record_kind */
	u16 cpu;
	u32 flags; /* enum oa_sample_flag */
	u8 comm[16]; /* the thread's name */
};

/* Which life of which process: a pid is used again, and exec makes a new image. */
struct oa_generation {
	u64 start_ns; /* group leader's start_boottime */
	u32 exec_id; /* task_struct.self_exec_id */
	u32 pid;
};

/* Then come `kernel_frames` u64 (newest first) and `user_frames` struct oa_frame (newest first). */
struct oa_trace {
	struct oa_sample sample;
	struct oa_generation generation;
	u64 fault_pc; /* where unwinding ended, an address of the process */
	u16 kernel_frames;
	u16 user_frames;
	u16 fault; /* enum oa_fault */
	u16 steps; /* unwinding steps taken */
	u32 space; /* address space that it was walked with; 0: deferred */
	u32 pad;
};

struct oa_regs {
	u64 gp[32]; /* by DWARF number; only those of the newest frame are all valid */
	u64 pc;
	u32 return_address; /* pc is the one after a call or system call */
	u32 valid_all; /* every register is valid: the newest frame, or behind a signal frame */
};

/* Why a process is reported. */
enum oa_report_reason {
	OA_REPORT_NEW = 1, /* a process that is not known was interrupted */
	OA_REPORT_UNKNOWN_PC, /* code runs in memory that is not known */
	OA_REPORT_PY_THREAD, /* a CPython thread state was not found */
};

struct oa_report {
	u64 time_ns;
	u64 addr; /* the address in question, or 0 */
	struct oa_generation generation;
	u16 kind; /* OA_RECORD_REPORT; where struct oa_sample has it: a reader looks there first */
	u16 reason; /* enum oa_report_reason */
	u32 tid;
};

/* How a row finds the canonical frame address. */
enum oa_cfa_kind {
	OA_CFA_REG, /* reg + cfa_offset */
	OA_CFA_DEREF, /* *(reg + cfa_offset) + cfa_add */
	OA_CFA_PLT, /* reg + cfa_offset + ((pc & 15) >= cfa_add ? 8 : 0) */
	OA_CFA_DEREF_INDEX, /* *(reg + cfa_reg2 * 8 + cfa_offset) + cfa_add: OpenSSL's saved stack
			       pointers */
	OA_CFA_OTHER_STACK, /* as OA_CFA_REG, and may be below: of another stack (arm64) */
	OA_CFA_GO_CALL, /* what Go's asmcgocall kept at the stack pointer, + cfa_add (arm64) */
	OA_CFA_GO_INJECTED, /* reg + cfa_offset, where the caller's link register is; + cfa_add:
			       Go's signal handler made the call (arm64) */
	OA_CFA_GO_ENTRY, /* as OA_CFA_REG; the caller's link register is cfa_reg2 (arm64) */
};

/* How a row finds a register of the caller. */
enum oa_reg_kind {
	OA_REG_SAME, /* unchanged */
	OA_REG_CFA, /* *(CFA + offset) */
	OA_REG_AT, /* *(reg + offset) */
	OA_REG_IN, /* in another register */
	OA_REG_UNDEFINED, /* not recoverable; as a return address: the first frame */
	OA_REG_CFA_VALUE, /* CFA + offset itself (DW_CFA_val_offset) */
	OA_REG_AT_AT, /* **(reg + offset): libgcc's contexts say where a register was saved */
};

/* A rule: how to step from a frame to its caller. Rows refer to it by index. */
struct oa_rule {
	u8 cfa_kind; /* enum oa_cfa_kind */
	u8 cfa_reg; /* DWARF number */
	u8 cfa_reg2;
	u8 fp_kind; /* enum oa_reg_kind */
	u8 fp_reg;
	u8 ra_kind; /* enum oa_reg_kind */
	u8 ra_reg;
	u8 bx_kind; /* x86-64: rbx, OA_REG_SAME, OA_REG_CFA or OA_REG_UNDEFINED */
	s32 cfa_offset;
	s32 cfa_add;
	s32 fp_offset;
	s32 ra_offset;
	s32 bx_offset;
	u32 pad;
};

/* A row is a u32: low 16 bits of the ELF address where it begins, then 16 bits
 * of what holds from there to the next row: a rule's index, or a command. The
 * first row of every page begins at 0, so a search never leaves its page.
 */
enum oa_row {
	OA_ROW_NONE = 32768, /* no information covers this address */
	OA_ROW_STOP = 32769, /* the first frame of a thread */
	OA_ROW_SIGNAL = 32770, /* a signal trampoline: registers are in the signal frame */
	OA_ROW_FRAME_POINTER = 32771, /* CFA = frame pointer + 16, known for certain (Go) */
	OA_ROW_UNSUPPORTED = 32772, /* covered by a rule that cannot be expressed */
	OA_ROW_FRAME_CODE = 32773, /* code that keeps frame pointers; in the newest frame the code
				      at the pc tells if it is set up */
	OA_ROW_BEGIN =
		32774, /* the first frame of a thread, which nothing called: it begins here */
	OA_ROW_COMMAND = 32768, /* the index is a command from here on */
};

/* Key and value of `pages`. */
struct oa_page_key {
	u64 file_id;
	u64 page; /* ELF address >> OA_PAGE_BITS */
};

struct oa_page {
	u32 chunk;
	u32 first; /* index of the first row in the chunk */
	u32 count;
	u32 pad;
};

/* Key and value of `mappings`, an LPM trie. Processes with the same mappings (a
 * fork that has not mapped code of its own) share one address space number.
 */
struct oa_mapping_key {
	u32 prefix_bits; /* 32 + bits of `addr_be` that count */
	u32 space_be;
	u64 addr_be;
};

/* Flags of a mapping, as bit numbers. */
enum oa_mapping_flag {
	OA_MAPPING_ANON_BIT, /* no file behind it: frames carry the process's address */
	OA_MAPPING_FRAMES_BIT, /* made by a compiler that always keeps frame pointers (V8) */
};

/* An executable range; one that is split over several keys has one and the same value in each. */
struct oa_mapping {
	u64 start;
	u64 end;
	u64 bias; /* ELF address = address - bias */
	u64 file_id; /* FileID's first 64 bits, big endian */
	u32 unwinder; /* enum oa_unwinder */
	u32 flags; /* enum oa_mapping_flag */
};

/* Flags of a process, as bit numbers. */
enum oa_process_flag {
	OA_PROCESS_FORKED_BIT, /* BPF made the entry at the fork; user space is told at the first
				  sample */
};

/* Value of `processes` (key: u32 pid). An entry with another generation is stale; one with
 * start_ns 0 was read before the first sample, and BPF fills it in. A child begins with its
 * parent's.
 */
struct oa_process {
	struct oa_generation generation;
	u32 space; /* number of its address space in `mappings` */
	u32 flags; /* enum oa_process_flag */
};

/* Value of `limits`, slots shared by processes whose pids are equal modulo their number. */
struct oa_limit_slot {
	u64 report_ns; /* when a process was last reported */
	u64 second; /* when `deferred` was last reckoned */
	u32 pid;
	u32 deferred; /* deferred stacks that count; each second takes some away */
};

/* How the frames of one run of the CPython eval loop are found. */
enum oa_python_kind {
	OA_PY_OBJECT, /* <= 3.10: one PyFrameObject for each run of the eval loop */
	OA_PY_CFRAME, /* 3.11, 3.12: a _PyCFrame in the loop's C frame points to them */
	OA_PY_ENTRY, /* >= 3.13: they end with an entry frame in the loop's C frame */
};

/* Which id of its own a thread is compared with. */
enum oa_python_match {
	OA_PY_MATCH_TLS, /* PyThreadState.thread_id, pthread_self(): the TLS base */
	OA_PY_MATCH_TID, /* PyThreadState.native_thread_id: the thread id */
};

/* Value of `python_procs` (key: u32 address space): where its CPython keeps what
 * python.h reads. Offsets in bytes, from interpreters/python/layout.py.
 */
struct oa_python_proc {
	u64 interpreters; /* address of the pointer to the newest PyInterpreterState */
	s32 current; /* from there: pointer to the state that has the GIL; 0: there is none */
	u32 interp_next;
	u32 interp_threads; /* pointer to the newest PyThreadState */
	u16 thread_next;
	u16 thread_id; /* what `match` says */
	u16 thread_frame; /* the current frame, or _PyCFrame */
	u16 cframe_frame; /* OA_PY_CFRAME only */
	u16 cframe_previous; /* OA_PY_CFRAME only */
	u16 frame_previous;
	u16 frame_code;
	u16 frame_instr; /* pointer to the instruction; OA_PY_OBJECT: its number, s32 */
	u16 frame_owner;
	u16 frame_entry; /* byte that tells the last frame of a run */
	u16 code_block; /* the four fields below lie in 32 bytes from here */
	u16 code_argcount;
	u16 code_kwonly;
	u16 code_flags;
	u16 code_firstlineno;
	u16 code_first_traceable; /* number of the first instruction that counts as started */
	u16 code_instructions; /* the bytecode itself */
	u8 kind; /* enum oa_python_kind */
	u8 match; /* enum oa_python_match */
	u8 entry_value; /* value of `frame_entry` in the last frame of a run */
	u8 entry_shown; /* that frame is a frame of Python code itself (3.11) */
	u8 owner_generator; /* value of `frame_owner` in frames that are never incomplete */
	u8 minor; /* 3.minor; 0: it cannot be unwound */
	u8 pad[4];
};

/* Key and value of `python_threads`. */
struct oa_python_thread_key {
	u64 thread; /* by enum oa_python_match: TLS base, or thread id */
	u32 pid;
	u32 pad;
};

struct oa_python_thread {
	u64 states[4]; /* addresses of PyThreadStates, newest first; 0 after the last */
};

/* Key of `python_files`: what tells a CPython's file from other files in memory. The value is a
 * struct oa_python_proc whose `interpreters` is an ELF address; of a dynamic linker, with minor 0,
 * it is that of its r_debug.
 */
struct oa_python_file_key {
	u64 dynamic; /* ELF address of its dynamic section */
	u64 sections; /* file offset of its section headers */
};

/* A Python frame in a deferred stack, or a _PyCFrame, as it lies in memory. */
struct oa_python_copy {
	u64 addr; /* where `memory` was */
	u64 code_addr; /* its code object; 0: it has none */
	u32 first_traceable; /* of the code object, from OA_PY_CFRAME on */
	u32 pad;
	u8 code[32]; /* the code object from code_block on */
	u8 memory[128]; /* 80 bytes from OA_PY_CFRAME on, and the next copy follows there */
};

/* A stack that could not be unwound when it was sampled. `trace.user_frames` is 0. */
struct oa_deferred {
	struct oa_trace trace;
	struct oa_regs regs;
	u64 kernel[127];
	u64 stack_addr; /* where `stack` begins: a red zone below the stack pointer */
	u64 other_addr; /* where another stack begins that frame pointers lead to */
	u64 go_high; /* where the stack of the goroutine that called C ends (arm64); 0: not known */
	u32 stack_bytes; /* valid bytes of `stack` at stack_addr */
	u32 other_bytes; /* and, behind them, at other_addr */
	u32 python_bytes; /* and, behind those, of struct oa_python_copy */
	u32 pad;
	u64 cursors[4]; /* of each of its CPython thread states: the newest frame, or _PyCFrame */
	struct oa_python_proc python; /* its CPython; minor 0: none was known */
	u8 stack[114688];
};

/* More of the stack of the OA_RECORD_DEFERRED with this time and thread, which follows. What could
 * not be read is zeros.
 */
struct oa_deep {
	u64 addr; /* where `memory` was: behind the copy in the deferred stack */
	u64 time_ns;
	u64 top_addr; /* where `top` was: up to what lies behind the thread's first frame */
	u32 pid;
	u32 tid;
	u16 kind; /* OA_RECORD_DEEP; where struct oa_sample has it */
	u16 cpu;
	u32 pad;
	u8 memory[131072];
	u8 top[65536];
};

/* How targets are told from the rest. */
enum oa_target_mode {
	OA_TARGET_ALL, /* every process */
	OA_TARGET_SET, /* thread groups in `targets`, and the cgroups */
};

/* What a target's children become (value of `targets`, key: u32 pid). */
enum oa_target {
	OA_TARGET_ALONE = 1, /* children are not followed */
	OA_TARGET_FOLLOW, /* children enter the set when they are forked */
	OA_TARGET_AT_EXEC, /* not yet: it becomes OA_TARGET_FOLLOW when it has exec'ed */
	OA_TARGET_NEVER, /* the agent: not sampled, nor are the children it has */
};

/* What a tick of calibrate.bpf.c saw of a thread of ours, as it lies in kernel memory. */
struct oa_calibration {
	u64 task; /* address of its task_struct */
	u64 regs; /* address of the interrupted registers */
	u32 tid; /* as the first pid namespace sees it */
	u32 pid; /* thread group id, likewise */
	u32 task_bytes; /* valid bytes of `task_copy` */
	u32 regs_bytes; /* valid bytes of `regs_copy` */
	u8 regs_copy[272]; /* the registers of user mode: x86-64 168 bytes, arm64 272 */
	u8 task_copy[16384];
};

/* Code of the kernel, copied by calibrate.bpf.c. */
struct oa_kernel_code {
	u32 is_read; /* the copy was tried */
	u32 bytes; /* valid bytes of `code` */
	u8 code[1024];
};

/* Set before load, read-only for BPF. Offsets are those of the running kernel. */
struct oa_config {
	u64 period_weight; /* weight of one sample */
	u32 self_pid; /* never sampled; 0: it is */
	u32 target_mode; /* enum oa_target_mode */
	u32 cgroups; /* used entries of `target_cgroups` */
	u32 max_user_frames;
	u32 cpus; /* rows in per-CPU arrays */
	u32 known_sets; /* a power of two */
	u32 idle; /* sample pid 0 too */
	u32 user_regs_distance; /* task_struct.stack to the user's pt_regs */
	u32 task_stack; /* offsets in task_struct */
	u32 task_mm;
	u32 task_pid;
	u32 task_tgid;
	u32 task_group_leader;
	u32 task_start_boottime;
	u32 task_self_exec_id;
	u32 task_tls; /* thread.fsbase (x86-64), thread.uw.tp_value (arm64) */
	u32 mm_auxv; /* offset of mm_struct.saved_auxv; 0: not known */
	u32 deferred_per_second; /* deferred stacks per process and second, in the long run */
	u32 deferred_burst; /* deferred stacks of a process at once */
	u32 report_interval_ms; /* a process is reported again after this */
	u32 wake_bytes; /* the reader is woken when the ring holds more than this */
	u32 pad;
	u64 pac_mask; /* arm64: pointer authentication bits of a return address */
	u64 switch_chance; /* off-CPU: a switch is followed in so many of 2^32 cases */
	u64 wait_min_ns; /* off-CPU: shorter waits are left out */
	u32 task_state; /* offset in task_struct; 0: not known */
	u32 pad2;
};

#endif
