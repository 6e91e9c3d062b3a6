/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Rust's v0 mangling (RFC 2603), printed while it is parsed: a back-reference is
 * parsed again where it points, so steps are counted. Crate hashes are left out.
 */
#include "demangle.h"

#include <string.h>

struct rust {
	struct oa_writer *to;
	const char *text;
	u64 at, size;
	u32 depth;
	u32 lifetimes; /* bound by the binders around */
	u8 silent;
	u8 failed;
};

static void put(struct rust *r, const char *text)
{
	if (!r->silent)
		oa_write_text(r->to, text);
}

static int fail(struct rust *r)
{
	return !(r->failed = 1);
}

/* Go one level deeper; 0 if the name is broken or too deep, or the budget is spent. */
static int enter(struct rust *r)
{
	if (r->failed || ++r->depth > OA_DEMANGLE_MAX_DEPTH)
		return fail(r);
	return oa_write_step(r->to) || fail(r);
}

static char peek(const struct rust *r)
{
	return r->at < r->size ? r->text[r->at] : '\0';
}

static int eat(struct rust *r, char wanted)
{
	if (peek(r) != wanted)
		return 0;
	r->at++;
	return 1;
}

/* digits and letters, then _ ; an empty one is 0, the others are one more than they say. */
static u64 base62(struct rust *r)
{
	u64 value = 0;

	if (eat(r, '_'))
		return 0;
	while (!eat(r, '_')) {
		char c = peek(r);
		u64 digit = c >= '0' && c <= '9'   ? (u64)(c - '0')
			    : c >= 'a' && c <= 'z' ? (u64)(c - 'a' + 10)
			    : c >= 'A' && c <= 'Z' ? (u64)(c - 'A' + 36)
						   : 62;

		if (digit == 62 || value > UINT64_MAX / 62 - 1) {
			fail(r);
			return 0;
		}
		value = value * 62 + digit;
		r->at++;
	}
	return value + 1;
}

static u64 disambiguator(struct rust *r)
{
	return eat(r, 's') ? base62(r) + 1 : 0;
}

static int identifier(struct rust *r, const char **text, u64 *size)
{
	u64 length = 0;
	int is_punycode = eat(r, 'u');

	if (peek(r) < '0' || peek(r) > '9')
		return fail(r);
	if (!eat(r, '0'))
		while (peek(r) >= '0' && peek(r) <= '9' && length <= r->size)
			length = length * 10 + (u64)(r->text[r->at++] - '0');
	eat(r, '_');
	if (length > r->size - r->at || is_punycode)
		return fail(r);
	*text = r->text + r->at;
	*size = length;
	r->at += length;
	return 1;
}

static void put_identifier(struct rust *r)
{
	const char *text;
	u64 size;

	if (identifier(r, &text, &size) && !r->silent)
		oa_write(r->to, text, size);
}

static void path(struct rust *r, int in_value);
static void type(struct rust *r);
static void constant(struct rust *r);

/* B and a position before here: continue there, then come back. */
static void backref(struct rust *r, void (*parse)(struct rust *, int), int argument)
{
	u64 start = r->at - 1, target = base62(r), back = r->at;

	if (r->failed || target >= start) {
		fail(r);
		return;
	}
	if (r->silent)
		return;
	r->at = target;
	parse(r, argument);
	r->at = back;
}

static void type_at(struct rust *r, int is_constant)
{
	if (is_constant)
		constant(r);
	else
		type(r);
}

static void lifetime(struct rust *r, u64 index)
{
	if (!index) {
		put(r, "'_");
	} else if (index > r->lifetimes) {
		fail(r);
	} else if (!r->silent) {
		u64 depth = r->lifetimes - index;

		if (depth < 26) {
			oa_write(r->to, (char[]){'\'', (char)('a' + depth)}, 2);
		} else {
			oa_write_text(r->to, "'_");
			oa_write_number(r->to, depth);
		}
	}
}

/* for<'a, 'b>; gives how many were bound. */
static u32 binder(struct rust *r)
{
	u64 count = eat(r, 'G') ? base62(r) + 1 : 0;

	if (!count)
		return 0;
	if (count > 64)
		return (u32)fail(r);
	put(r, "for<");
	for (u64 i = 0; i < count; i++) {
		put(r, i ? ", " : "");
		r->lifetimes++;
		lifetime(r, 1);
	}
	put(r, "> ");
	return (u32)count;
}

static void generic_args(struct rust *r)
{
	put(r, "<");
	for (int i = 0; !r->failed && !eat(r, 'E'); i++) {
		put(r, i ? ", " : "");
		if (eat(r, 'L'))
			lifetime(r, base62(r));
		else if (eat(r, 'K'))
			constant(r);
		else
			type(r);
	}
	put(r, ">");
}

static void nested(struct rust *r, int in_value)
{
	char space = peek(r);
	const char *text;
	u64 index, size;

	r->at++;
	path(r, in_value);
	index = disambiguator(r);
	if (!identifier(r, &text, &size) || r->silent)
		return;
	if (space >= 'A' && space <= 'Z') {
		oa_write_text(r->to, "::{");
		if (space == 'C')
			oa_write_text(r->to, "closure");
		else if (space == 'S')
			oa_write_text(r->to, "shim");
		else
			oa_write(r->to, &space, 1);
		if (size) {
			oa_write_text(r->to, ":");
			oa_write(r->to, text, size);
		}
		oa_write_text(r->to, "#");
		oa_write_number(r->to, index);
		oa_write_text(r->to, "}");
	} else if (space >= 'a' && space <= 'z') {
		if (size)
			oa_write_text(r->to, "::");
		oa_write(r->to, text, size);
	} else {
		fail(r);
	}
}

static void implementation(struct rust *r, char tag)
{
	u8 silent = r->silent;

	if (tag != 'Y') { /* where the impl is: not shown */
		disambiguator(r);
		r->silent = 1;
		path(r, 0);
		r->silent = silent;
	}
	put(r, "<");
	type(r);
	if (tag != 'M') {
		put(r, " as ");
		path(r, 0);
	}
	put(r, ">");
}

static void path(struct rust *r, int in_value)
{
	char tag = peek(r);

	if (!enter(r))
		return;
	r->at++;
	switch (tag) {
	case 'C':
		disambiguator(r);
		put_identifier(r);
		break;
	case 'N':
		nested(r, in_value);
		break;
	case 'M':
	case 'X':
	case 'Y':
		implementation(r, tag);
		break;
	case 'I':
		path(r, in_value);
		if (in_value)
			put(r, "::");
		generic_args(r);
		break;
	case 'B':
		backref(r, path, in_value);
		break;
	default:
		fail(r);
	}
	r->depth--;
}

static const char *basic_type(char tag)
{
	static const char *const names[26] = {"i8",   "bool",  "char",	"f64", "str", "f32", NULL,
					      "u8",   "isize", "usize", NULL,  "i32", "u32", "i128",
					      "u128", "_",     NULL,	NULL,  "i16", "u16", "()",
					      "...",  NULL,    "i64",	"u64", "!"};

	return tag >= 'a' && tag <= 'z' ? names[tag - 'a'] : NULL;
}

/* Types up to E; gives how many. */
static int type_list(struct rust *r)
{
	int count = 0;

	put(r, "(");
	for (; !r->failed && !eat(r, 'E'); count++) {
		put(r, count ? ", " : "");
		type(r);
	}
	return count;
}

static void function_type(struct rust *r)
{
	u32 bound = binder(r);

	if (eat(r, 'U'))
		put(r, "unsafe ");
	if (eat(r, 'K')) {
		const char *text = "C";
		u64 size = 1;

		if (!eat(r, 'C') && !identifier(r, &text, &size))
			return;
		put(r, "extern \"");
		for (u64 i = 0; i < size && !r->silent; i++)
			oa_write(r->to, text[i] == '_' ? "-" : &text[i], 1);
		put(r, "\" ");
	}
	put(r, "fn");
	type_list(r);
	put(r, ")");
	if (!eat(r, 'u')) {
		put(r, " -> ");
		type(r);
	}
	r->lifetimes -= bound;
}

/* A trait of `dyn`, whose bindings go into its own angle brackets. */
static void dyn_trait(struct rust *r)
{
	u64 before = r->to->used;
	int open;

	path(r, 0);
	open = r->to->used > before && r->to->out[r->to->used - 1] == '>' &&
	       r->to->out[before] != '<';
	while (!r->failed && eat(r, 'p')) {
		if (open && !r->silent)
			r->to->used--;
		put(r, open ? ", " : "<");
		open = 1;
		put_identifier(r);
		put(r, " = ");
		type(r);
		put(r, ">");
	}
}

static void dyn_type(struct rust *r)
{
	u32 bound;

	put(r, "dyn ");
	bound = binder(r);
	for (int i = 0; !r->failed && !eat(r, 'E'); i++) {
		if (i)
			put(r, " + ");
		dyn_trait(r);
	}
	r->lifetimes -= bound;
	if (!eat(r, 'L')) {
		fail(r);
		return;
	}
	if (eat(r, '_')) /* an erased one */
		return;
	put(r, " + ");
	lifetime(r, base62(r));
}

static void reference(struct rust *r, const char *kind)
{
	put(r, "&");
	if (eat(r, 'L')) {
		u64 index = base62(r);

		if (index) {
			lifetime(r, index);
			put(r, " ");
		}
	}
	put(r, kind);
	type(r);
}

static void compound_type(struct rust *r, char tag)
{
	switch (tag) {
	case 'A':
	case 'S':
		put(r, "[");
		type(r);
		if (tag == 'A') {
			put(r, "; ");
			constant(r);
		}
		put(r, "]");
		break;
	case 'T':
		put(r, type_list(r) == 1 ? ",)" : ")");
		break;
	case 'R':
	case 'Q':
		reference(r, tag == 'R' ? "" : "mut ");
		break;
	case 'P':
	case 'O':
		put(r, tag == 'P' ? "*const " : "*mut ");
		type(r);
		break;
	case 'F':
		function_type(r);
		break;
	case 'D':
		dyn_type(r);
		break;
	default:
		backref(r, type_at, 0);
	}
}

static void type(struct rust *r)
{
	char tag = peek(r);
	const char *basic = basic_type(tag);

	if (!enter(r))
		return;
	if (basic) {
		r->at++;
		put(r, basic);
	} else if (tag && strchr("ASTRQPOFDB", tag)) {
		r->at++;
		compound_type(r, tag);
	} else {
		path(r, 0);
	}
	r->depth--;
}

static void constant(struct rust *r)
{
	char tag = peek(r);
	u64 value = 0, start;

	if (!enter(r))
		return;
	r->at++;
	r->depth--;
	if (tag == 'B') {
		backref(r, type_at, 1);
		return;
	}
	if (tag == 'p') {
		put(r, "_");
		return;
	}
	if (!basic_type(tag) || !strchr("abchijlmnostxy", tag)) {
		fail(r);
		return;
	}
	if (eat(r, 'n'))
		put(r, "-");
	for (start = r->at; !r->failed && !eat(r, '_'); r->at++) {
		char c = peek(r);

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			fail(r);
		value = value << 4 | (u64)(c >= 'a' ? c - 'a' + 10 : c - '0');
	}
	if (r->failed || r->silent)
		return;
	if (tag == 'b') {
		put(r, value ? "true" : "false");
	} else if (tag == 'c' && value >= 0x20 && value < 0x7f) {
		oa_write(r->to, (char[]){'\'', (char)value, '\''}, 3);
	} else if (r->at - start <= 17) {
		oa_write_number(r->to, value);
	} else {
		oa_write_text(r->to, "0x");
		oa_write(r->to, r->text + start, r->at - start - 1);
	}
}

int oa_demangle_rust_v0(struct oa_writer *to, const char *name, u64 size)
{
	struct rust r = {.to = to, .text = name + 2, .size = size - 2};

	if (name[1] != 'R')
		return 0;
	for (u64 i = 0; i < r.size; i++)
		if (r.text[i] == '.' || r.text[i] == '$')
			r.size = i; /* a suffix of the compiler */
	path(&r, 1);
	if (!r.failed && r.at < r.size) { /* the crate that made this instance */
		r.silent = 1;
		path(&r, 0);
	}
	return !r.failed && r.at == r.size;
}
