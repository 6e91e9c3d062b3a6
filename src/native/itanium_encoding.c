/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* C++ names from the outside: encodings of functions, special names, clones. */
#include "itanium_parser.h"

#include <stdlib.h>
#include <string.h>

static char peek(const struct parser *p, u32 ahead)
{
	return p->end - p->at > ahead ? p->at[ahead] : '\0';
}

static int is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* h or v, and the numbers by which a thunk moves `this`. */
static void call_offset(struct parser *p)
{
	int is_virtual = oa_itanium_eat(p, "v");

	if (!is_virtual && !oa_itanium_eat(p, "h"))
		p->failed = 1;
	for (int i = 0; i <= is_virtual; i++) {
		oa_itanium_eat(p, "n");
		oa_itanium_number(p);
		if (!oa_itanium_eat(p, "_"))
			p->failed = 1;
	}
}

static struct node *thunk(struct parser *p)
{
	static const char *const texts[] = {"non-virtual thunk to ", "virtual thunk to ",
					    "covariant return thunk to "};
	char kind = peek(p, 1);
	const char *text = texts[kind == 'h' ? 0 : kind == 'v' ? 1 : 2];

	p->at++;
	if (kind == 'c') {
		p->at++;
		call_offset(p);
	}
	call_offset(p);
	return oa_itanium_text(p, NODE_PREFIX, text, strlen(text), oa_itanium_encoding(p, 0));
}

/* Virtual tables, guards and the like; those that are code are thunks and TLS functions. */
static struct node *special(struct parser *p)
{
	static const struct {
		const char *code, *text;
		int is_type;
	} all[] = {{"TV", "vtable for ", 1},
		   {"TT", "VTT for ", 1},
		   {"TI", "typeinfo for ", 1},
		   {"TS", "typeinfo name for ", 1},
		   {"TW", "TLS wrapper function for ", 0},
		   {"TH", "TLS init function for ", 0},
		   {"GV", "guard variable for ", 0}};
	struct name_state state = {.is_entity = 1};

	if (peek(p, 0) == 'T' && peek(p, 1) && strchr("hvc", peek(p, 1)))
		return thunk(p);
	if (oa_itanium_eat(p, "GTt"))
		return oa_itanium_text(p, NODE_PREFIX, "transaction clone for ", 22,
				       oa_itanium_encoding(p, 0));
	for (u32 i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (oa_itanium_eat(p, all[i].code))
			return oa_itanium_text(p, NODE_PREFIX, all[i].text, strlen(all[i].text),
					       all[i].is_type ? oa_itanium_type(p)
							      : oa_itanium_name(p, &state));
	return oa_itanium_fail(p);
}

/* The types up to the end, or up to where a name's surroundings go on. */
static struct node *parameters(struct parser *p)
{
	struct node *list = NULL, **tail = &list;

	while (!p->failed && p->at < p->end && *p->at != 'E' && *p->at != '.') {
		struct node *type;

		if (oa_itanium_eat(p, "Q"))
			return oa_itanium_fail(p); /* constraints */
		type = oa_itanium_type(p);
		*tail = oa_itanium_node(p, NODE_LIST, type, NULL);
		if (!type || !*tail)
			return oa_itanium_fail(p);
		tail = &(*tail)->b;
	}
	return list;
}

static void resolve_forward(struct parser *p, u32 first)
{
	for (u32 i = first; i < p->forward_count; i++) {
		struct node *list = p->arguments;

		for (u32 at = 0; list && at < p->forward[i]->extra; at++)
			list = list->b;
		p->forward[i]->a = list ? list->a : oa_itanium_fail(p);
	}
	p->forward_count = first;
}

struct node *oa_itanium_encoding(struct parser *p, int is_top)
{
	struct name_state state = {.is_entity = 1};
	struct node *name, *function, *returned = NULL;
	u32 forward = p->forward_count;

	if (!oa_itanium_enter(p))
		return NULL;
	p->depth--; /* bounded by what is called, all of which enters */
	if (peek(p, 0) == 'T' || (peek(p, 0) == 'G' && strchr("VRT", peek(p, 1))))
		return special(p);
	name = oa_itanium_name(p, &state);
	if (!name)
		return NULL;
	resolve_forward(p, forward);
	if (p->at == p->end || *p->at == 'E' || *p->at == '.')
		return name; /* a variable */
	function = oa_itanium_node(p, NODE_FUNCTION, NULL, NULL);
	if (!function)
		return NULL;
	if (state.ends_with_arguments && !state.has_no_return) {
		returned = oa_itanium_type(p);
		if (!returned)
			return NULL;
	}
	function->extra = state.qualifiers;
	function->b = parameters(p);
	if (!function->b)
		return oa_itanium_fail(p);
	function->a = is_top ? returned : NULL; /* not shown inside of another name */
	return p->failed ? NULL : oa_itanium_node(p, NODE_ENCODING, name, function);
}

/* .cold, .constprop.0, .part.1 … each a word and perhaps numbers. */
static struct node *clones(struct parser *p, struct node *n)
{
	while (n && peek(p, 0) == '.') {
		const char *start = p->at++;

		while (p->at < p->end && *p->at != '.')
			p->at++;
		while (peek(p, 0) == '.' && is_digit(peek(p, 1)))
			for (p->at++; is_digit(peek(p, 0));)
				p->at++;
		n = oa_itanium_text(p, NODE_CLONE, start, (u64)(p->at - start), n);
	}
	return n;
}

int oa_demangle_itanium(struct oa_writer *to, const char *name, u64 size)
{
	struct parser *p;
	struct node *root;
	int is_whole = 0;

	if (name[1] != 'Z')
		return 0;
	p = malloc(sizeof(*p) + (size * 3 + 64) * sizeof(struct node));
	if (!p)
		return 0;
	memset(p, 0, sizeof(*p));
	p->at = name + 2;
	p->end = name + size;
	p->room = (u32)(size * 3 + 64);
	root = clones(p, oa_itanium_encoding(p, 1));
	if (root && !p->failed && p->at == p->end) {
		oa_itanium_print(to, root, p->arguments);
		is_whole = 1;
	}
	free(p);
	return is_whole;
}
