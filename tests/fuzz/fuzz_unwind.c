/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The unwinders on the host: a made-up process whose tables, memory and deferred
 * stack are whatever the input says, mostly near enough to real ones to be walked.
 */
#include "fuzz.h"
#include "host_unwind.h"

enum { FILE_ID = 0xf11e, PID = 7, SPACE = 1, ROWS = 512, HEAP_BYTES = 2048 };

static const u64 TEXT = 0x555500000000, STACK = 0x7ffd00001000, HEAP = 0x7f0000000000;

static void stop_if(int wrong)
{
	if (wrong)
		abort();
}

/* An address that is often one of the process. */
static u64 choose_addr(struct choices *c)
{
	switch (choose_below(c, 8)) {
	case 0:
		return choose(c, 8);
	case 1:
	case 2:
		return TEXT + 65536 + choose_below(c, 3 << 16);
	case 3:
		return HEAP + choose_below(c, HEAP_BYTES + 64);
	case 4:
		return choose(c, 2);
	default:
		return STACK + choose_below(c, OA_MAX_STACK_BYTES) / 8 * 8;
	}
}

static s32 choose_offset(struct choices *c)
{
	return usually(c, 16) ? (s32)(s8)choose(c, 1) * 8 : (s32)choose(c, 4);
}

static u32 choose_reg(struct choices *c)
{
	static const u8 USUAL[] = {OA_X86_RSP, OA_X86_RBP, OA_ARM_SP, OA_ARM_FP};

	return usually(c, 16) ? USUAL[choose_below(c, sizeof(USUAL))] : (u32)choose(c, 1);
}

static void make_rules(struct choices *c, struct oa_rule *rules, u32 count)
{
	for (u32 i = 0; i < count; i++)
		rules[i] = (struct oa_rule){
			.cfa_kind = choose_below(c, OA_CFA_DEREF_INDEX + 2),
			.cfa_reg = choose_reg(c),
			.cfa_reg2 = choose_reg(c),
			.fp_kind = choose_below(c, OA_REG_AT_AT + 2),
			.fp_reg = choose_reg(c),
			.ra_kind = choose_below(c, OA_REG_AT_AT + 2),
			.ra_reg = choose_reg(c),
			.cfa_offset = choose_offset(c),
			.cfa_add = choose_offset(c),
			.fp_offset = choose_offset(c),
			.ra_offset = choose_offset(c),
		};
	/* Most are as compilers make them, else no walk would go far. */
	for (u32 i = 0; i < count; i++) {
		if (!usually(c, 4))
			continue;
		rules[i].cfa_kind = OA_CFA_REG;
		rules[i].cfa_reg = choose_below(c, 2) ? OA_X86_RSP : OA_ARM_SP;
		rules[i].cfa_offset = 8 + 8 * (s32)choose_below(c, 8);
		rules[i].fp_kind = choose_below(c, 2) ? OA_REG_SAME : OA_REG_CFA;
		rules[i].ra_kind = OA_REG_CFA;
		rules[i].fp_offset = -16;
		rules[i].ra_offset = -8;
	}
}

static void make_rows(struct choices *c, struct oa_host *host, u32 *rows)
{
	u32 pages = 3 + choose_below(c, 4);

	for (u32 i = 0; i < ROWS; i++)
		rows[i] = (u32)choose(c, 1) << 8 | choose_below(c, usually(c, 8) ? 20 : 24) << 16 |
			  (usually(c, 32) ? 0 : (u32)OA_ROW_COMMAND << 16);
	stop_if(oa_host_use_chunk(host, 0, rows, ROWS * sizeof(*rows)));
	for (u32 i = 0; i < pages; i++) {
		struct oa_page_key key = {FILE_ID, 1 + i};
		struct oa_page page = {
			.chunk = usually(c, 16) ? 0 : (u32)choose(c, 4),
			.first = usually(c, 16) ? choose_below(c, ROWS) : (u32)choose(c, 4),
		};

		page.count = usually(c, 16) ? choose_below(c, ROWS - page.first % ROWS)
					    : (u32)choose(c, 4);

		stop_if(oa_host_update(host, OA_HOST_PAGES, &key, sizeof(key), &page,
				       sizeof(page)));
	}
}

static void make_mappings(struct choices *c, struct oa_host *host)
{
	for (u32 i = 3 + choose_below(c, 4); i; i--) {
		struct oa_mapping mapping = {
			.start = usually(c, 32) ? TEXT + ((u64)i << 16) : choose_addr(c),
			.bias = usually(c, 16) ? TEXT : choose(c, 8),
			.file_id = usually(c, 16) ? FILE_ID : choose(c, 8),
			.unwinder = choose_below(c, usually(c, 8) ? 2 : 5),
			.flags = choose_below(c, 4),
		};

		mapping.end = mapping.start + (usually(c, 16) ? 65536 : choose(c, 3));
		oa_host_add_mapping(host, usually(c, 32) ? SPACE : 0, &mapping);
	}
}

/* CPython: offsets that lie in the heap, in any layout. */
static void choose_proc(struct choices *c, struct oa_python_proc *proc)
{
	u16 *field = &proc->thread_next;

	memset(proc, 0, sizeof(*proc));
	proc->interpreters = choose_addr(c);
	proc->interp_next = choose_below(c, 64) * 8;
	proc->interp_threads = choose_below(c, 64) * 8;
	for (; (u8 *)field < &proc->kind; field++)
		*field = usually(c, 8) ? choose_below(c, 16) * 8 : (u16)choose(c, 2);
	proc->kind = choose_below(c, OA_PY_ENTRY + 2);
	proc->match = choose_below(c, 3);
	proc->entry_value = choose_below(c, 4);
	proc->entry_shown = choose_below(c, 2);
	proc->owner_generator = choose_below(c, 4);
	proc->minor = choose_below(c, 16);
}

static void make_python(struct choices *c, struct oa_host *host, struct oa_python_proc *proc)
{
	struct oa_python_thread_key key = {.thread = PID, .pid = PID};
	struct oa_python_thread thread;
	u32 space = SPACE;

	choose_proc(c, proc);
	for (u32 i = 0; i < OA_PY_STATES; i++)
		thread.states[i] = usually(c, 4) ? 0 : HEAP + choose_below(c, HEAP_BYTES / 8) * 8;
	oa_host_update(host, OA_HOST_PYTHON_PROCS, &space, sizeof(space), proc, sizeof(*proc));
	oa_host_update(host, OA_HOST_PYTHON_THREADS, &key, sizeof(key), &thread, sizeof(thread));
}

static void make_memory(struct choices *c, struct oa_host *host, u64 *heap)
{
	for (u32 i = 0; i < HEAP_BYTES / 8; i++)
		heap[i] = choose_below(c, 2)   ? HEAP + choose_below(c, HEAP_BYTES / 8) * 8
			  : choose_below(c, 2) ? PID
					       : choose_addr(c);
	oa_host_add_memory(host, HEAP, heap, HEAP_BYTES);
	oa_host_add_memory(host, TEXT + choose(c, 1), heap, HEAP_BYTES);
	oa_host_add_memory(host, choose(c, 8), heap, HEAP_BYTES / 2);
}

/* Copies of Python frames, of the interpreter that the space has, or of another. */
static void make_copies(struct choices *c, struct oa_deferred *d, const struct oa_python_proc *proc)
{
	u32 at = (d->stack_bytes + d->other_bytes) & 16383, most = 2048;

	if (usually(c, 8))
		d->python = *proc;
	else
		choose_proc(c, &d->python);
	d->python_bytes = usually(c, 64) ? choose_below(c, most) : (u32)choose(c, 4);
	for (u32 i = 0; i < OA_PY_STATES; i++)
		d->cursors[i] = usually(c, 2) ? HEAP + choose_below(c, 64) * 8 : choose_addr(c);
	for (u32 i = 0; i < most / 8; i++) {
		u64 word = usually(c, 2) ? HEAP + choose_below(c, 64) * 8 : choose_addr(c);

		memcpy(d->stack + at + i * 8, &word, 8);
	}
}

static void make_deferred(struct choices *c, struct oa_deferred *d)
{
	u32 words = choose_below(c, OA_MAX_STACK_BYTES / 8 + 1);

	memset(d, 0, sizeof(*d));
	d->trace.sample.kind = usually(c, 64) ? OA_RECORD_DEFERRED : choose(c, 2);
	d->trace.sample.pid = PID;
	d->trace.sample.tid = PID;
	d->trace.sample.flags = (u32)choose(c, 1);
	d->trace.generation.pid = usually(c, 64) ? PID : 0;
	d->trace.kernel_frames = usually(c, 64) ? choose_below(c, 128) : choose(c, 2);
	d->trace.user_frames = (u16)choose(c, 2);
	for (u32 i = 0; i < OA_GP_REGS; i++)
		d->regs.gp[i] = usually(c, 4) ? choose_addr(c) : 0;
	d->regs.gp[OA_X86_RSP] = STACK + choose_below(c, 256) / 8 * 8;
	d->regs.gp[OA_ARM_SP] = d->regs.gp[OA_X86_RSP];
	d->regs.pc = usually(c, 8) ? TEXT + 65536 + choose(c, 2) : choose_addr(c);
	d->regs.return_address = choose_below(c, 2);
	d->regs.valid_all = choose_below(c, 2);
	d->stack_addr = usually(c, 16) ? STACK : choose(c, 8);
	d->stack_bytes = usually(c, 64) ? words * 8 : (u32)choose(c, 4);
	if (!usually(c, 4)) {
		d->other_addr = choose_addr(c);
		d->other_bytes =
			usually(c, 64) ? choose_below(c, d->stack_bytes + 1) : (u32)choose(c, 4);
		d->stack_bytes -= d->other_bytes;
	}
	for (u32 i = 0; i < words; i++) {
		u64 word =
			!usually(c, 4) ? choose_addr(c) : TEXT + 65536 + choose_below(c, 3 << 16);

		memcpy(d->stack + i * 8, &word, 8);
	}
}

/* What may follow: the stack's next pages, or something else. */
static void make_deep(struct choices *c, struct oa_deep *deep)
{
	deep->kind = usually(c, 16) ? OA_RECORD_DEEP : (u16)choose(c, 2);
	deep->addr = usually(c, 16) ? STACK + choose_below(c, OA_MAX_STACK_BYTES) : choose(c, 8);
	deep->top_addr = usually(c, 16) ? deep->addr + OA_DEEP_BYTES : choose(c, 8);
	for (u32 i = 0; i < 64; i++) {
		u64 word = TEXT + 65536 + choose_below(c, 3 << 16);

		memcpy(deep->memory + choose_below(c, OA_DEEP_BYTES - 8), &word, sizeof(word));
	}
}

/* What the reader of a trace relies on. */
static void check_trace(const u8 *out, s32 bytes, u32 max_frames)
{
	struct oa_trace trace;

	stop_if(bytes < (s32)sizeof(trace));
	memcpy(&trace, out, sizeof(trace));
	stop_if(trace.sample.kind != OA_RECORD_TRACE || !trace.sample.hash);
	stop_if(trace.kernel_frames > OA_MAX_KERNEL_FRAMES || trace.user_frames > max_frames);
	stop_if(trace.fault >= OA_FAULT_COUNT);
	stop_if((u32)bytes != sizeof(trace) + trace.kernel_frames * 8u + trace.user_frames * 16u);
}

static void unwind(struct choices *c, struct oa_host *host, const struct oa_python_proc *proc,
		   u32 max_frames)
{
	static struct oa_deferred deferred;
	static struct oa_deep deep;
	u32 head = offsetof(struct oa_deferred, stack), bytes, more,
	    capacity = oa_host_trace_bytes();
	u8 *record, *out, *again;
	s32 size;

	make_deferred(c, &deferred);
	bytes = usually(c, 64) ? head + ((deferred.stack_bytes + deferred.other_bytes) & 16383)
			       : choose_below(c, head);
	if (choose_below(c, 2)) {
		make_copies(c, &deferred, proc);
		bytes += deferred.python_bytes & 2047;
	}
	more = usually(c, 4) ? 0 : usually(c, 4) ? sizeof(deep) : choose_below(c, sizeof(deep));
	record = malloc(bytes + more + 1);
	out = malloc(capacity);
	again = malloc(capacity);
	stop_if(!record || !out || !again);
	/* At an odd address: nothing promises more. */
	record[0] = 0;
	if (bytes > 1)
		memcpy(record + 1, &deferred, bytes);
	make_deep(c, &deep);
	memcpy(record + 1 + bytes, &deep, more);
	bytes += more;
	size = oa_host_unwind(host, record + 1, bytes, out, capacity);
	if (size > 0) {
		check_trace(out, size, max_frames);
		stop_if(oa_host_unwind(host, record + 1, bytes, again, capacity) != size);
		stop_if(memcmp(out, again, (size_t)size));
		stop_if(oa_host_unwind(host, record + 1, bytes, again, (u32)size - 1) >= 0);
	}
	free(record);
	free(out);
	free(again);
}

void oa_fuzz_one(const u8 *data, size_t size)
{
	struct choices c = choices_of(data, size);
	struct oa_rule *rules = calloc(20, sizeof(*rules));
	u32 *rows = malloc(ROWS * sizeof(*rows));
	u64 *heap = malloc(HEAP_BYTES);
	struct oa_host *host = oa_host_new();
	struct oa_config config;
	struct oa_process process = {.space = SPACE, .generation = {.pid = PID}};
	struct oa_python_proc proc;
	u32 pid = PID;

	stop_if(!rules || !rows || !heap || !host);
	memset(&config, 0, sizeof(config));
	config.max_user_frames = choose_below(&c, OA_MAX_USER_FRAMES + 1);
	config.pac_mask = choose_below(&c, 2) ? 0xff7f000000000000 : 0;
	oa_host_configure(host, &config);
	oa_host_use_interpreters(host, usually(&c, 4));
	oa_host_update(host, OA_HOST_PROCESSES, &pid, sizeof(pid), &process, sizeof(process));
	make_rules(&c, rules, 20);
	stop_if(oa_host_use_rules(host, rules, 20 * sizeof(*rules)));
	make_rows(&c, host, rows);
	make_mappings(&c, host);
	make_python(&c, host, &proc);
	unwind(&c, host, &proc, config.max_user_frames);
	make_memory(&c, host, heap);
	unwind(&c, host, &proc, config.max_user_frames);
	oa_host_free(host);
	free(heap);
	free(rows);
	free(rules);
}
