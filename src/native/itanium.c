/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Parses C++ names by the Itanium C++ ABI, chapter 5.1 (mangling), into a tree.
 * Names are here.
 */
#include "itanium_parser.h"

#include <string.h>

struct node *oa_itanium_node(struct parser *p, u8 kind, struct node *a, struct node *b)
{
	struct node *n;

	if (p->used >= p->room) {
		p->failed = 1;
		return NULL;
	}
	n = &p->arena[p->used++];
	*n = (struct node){.kind = kind, .a = a, .b = b};
	return n;
}

struct node *oa_itanium_text(struct parser *p, u8 kind, const char *text, u64 length,
			     struct node *a)
{
	struct node *n = oa_itanium_node(p, kind, a, NULL);

	if (n) {
		n->text = text;
		n->length = (u32)length;
	}
	return n;
}

static struct node *literal_text(struct parser *p, const char *text)
{
	return oa_itanium_text(p, NODE_TEXT, text, strlen(text), NULL);
}

int oa_itanium_eat(struct parser *p, const char *wanted)
{
	u64 size = strlen(wanted);

	if ((u64)(p->end - p->at) < size || memcmp(p->at, wanted, size))
		return 0;
	p->at += size;
	return 1;
}

void *oa_itanium_fail(struct parser *p)
{
	p->failed = 1;
	return NULL;
}

static char peek(const struct parser *p, u32 ahead)
{
	return p->end - p->at > ahead ? p->at[ahead] : '\0';
}

static int is_digit(char c)
{
	return c >= '0' && c <= '9';
}

u64 oa_itanium_number(struct parser *p)
{
	u64 value = 0;

	if (!is_digit(peek(p, 0)))
		p->failed = 1;
	while (is_digit(peek(p, 0)) && value < UINT32_MAX)
		value = value * 10 + (u64)(*p->at++ - '0');
	return value;
}

/* [number] _ : nothing is 0, the others are one more than they say. */
u32 oa_itanium_sequence(struct parser *p)
{
	u64 value = 0;

	if (is_digit(peek(p, 0)))
		value = oa_itanium_number(p) + 1;
	if (!oa_itanium_eat(p, "_"))
		p->failed = 1;
	return (u32)value;
}

struct node *oa_itanium_remember(struct parser *p, struct node *n)
{
	if (!n)
		return NULL;
	if (p->substitution_count >= MAX_SUBSTITUTIONS)
		return oa_itanium_fail(p);
	p->substitutions[p->substitution_count++] = n;
	return n;
}

struct node *oa_itanium_source(struct parser *p)
{
	u64 size = oa_itanium_number(p);
	const char *text = p->at;

	if (p->failed || !size || size > (u64)(p->end - p->at))
		return oa_itanium_fail(p);
	p->at += size;
	if (size >= 10 && !memcmp(text, "_GLOBAL_", 8) && text[9] == 'N' &&
	    (text[8] == '_' || text[8] == '.' || text[8] == '$'))
		return literal_text(p, "(anonymous namespace)");
	return oa_itanium_text(p, NODE_TEXT, text, size, NULL);
}

static struct node *abi_tags(struct parser *p, struct node *n)
{
	while (n && !p->failed && oa_itanium_eat(p, "B")) {
		struct node *tag = oa_itanium_source(p);

		n = tag ? oa_itanium_text(p, NODE_TAGGED, tag->text, tag->length, n) : NULL;
	}
	return n;
}

/* The name that a constructor repeats: the last part, without template arguments. */
static struct node *class_name(struct parser *p, struct node *scope)
{
	for (u32 i = 0; scope && i < OA_DEMANGLE_MAX_DEPTH; i++) {
		if (scope->kind == NODE_QUALIFIED || scope->kind == NODE_LOCAL)
			scope = scope->b;
		else if (scope->kind == NODE_TEMPLATE || scope->kind == NODE_TAGGED)
			scope = scope->a;
		else
			return scope;
	}
	return oa_itanium_fail(p);
}

static struct node *constructor(struct parser *p, struct node *scope, struct name_state *state)
{
	int is_destructor = peek(p, 0) == 'D';
	char kind = peek(p, 1);
	struct node *name;

	if (peek(p, 0) == 'C' && kind == 'I')
		return oa_itanium_fail(p); /* an inherited one */
	if (kind < '0' || kind > '5')
		return oa_itanium_fail(p);
	p->at += 2;
	state->has_no_return = 1;
	name = class_name(p, scope);
	if (!name)
		return NULL;
	if (name->kind == NODE_TEXT && name->length > 5 && !memcmp(name->text, "std::", 5))
		name = oa_itanium_text(p, NODE_TEXT, name->text + 5, name->length - 5, NULL);
	return is_destructor ? oa_itanium_node(p, NODE_DESTRUCTOR, name, NULL) : name;
}

static struct node *unqualified(struct parser *p, struct node *scope, struct name_state *state)
{
	char c = peek(p, 0);
	struct node *n;

	if (c == 'L') { /* has internal linkage */
		p->at++;
		c = peek(p, 0);
	}
	if (is_digit(c))
		n = oa_itanium_source(p);
	else if (c == 'U')
		n = oa_itanium_unnamed(p);
	else if (c == 'C' || (c == 'D' && peek(p, 1) != 'C'))
		n = scope ? constructor(p, scope, state) : oa_itanium_fail(p);
	else
		n = oa_itanium_operator(p, state);
	return abi_tags(p, n);
}

static const struct {
	char code;
	const char *text, *name, *arguments;
} standard[] = {
	{'a', "std::allocator", NULL, NULL},
	{'b', "std::basic_string", NULL, NULL},
	{'s', "std::string", "basic_string", "char, std::char_traits<char>, std::allocator<char>"},
	{'i', "std::istream", "basic_istream", "char, std::char_traits<char>"},
	{'o', "std::ostream", "basic_ostream", "char, std::char_traits<char>"},
	{'d', "std::iostream", "basic_iostream", "char, std::char_traits<char>"},
};

/* The class behind an abbreviation: constructors repeat its name. */
static struct node *spelled_out(struct parser *p, const char *name, const char *arguments)
{
	struct node *list = oa_itanium_node(p, NODE_LIST, literal_text(p, arguments), NULL);
	struct node *part = oa_itanium_node(p, NODE_TEMPLATE, literal_text(p, name), list);

	return oa_itanium_node(p, NODE_QUALIFIED, literal_text(p, "std"), part);
}

static struct node *bound_to(const struct parser *p, u32 index)
{
	struct node *list = p->arguments;

	for (u32 i = 0; list && i < index; i++)
		list = list->b;
	return list ? list->a : NULL;
}

/* A parameter that was seen in another function's name means an argument of this
 * one here: compilers abbreviate T_ by how it is spelled.
 */
static struct node *rebind(struct parser *p, struct node *n, u32 depth)
{
	struct node *target, *copy;

	if (!n || p->in_lambda || depth > 8)
		return n;
	if (n->kind == NODE_PARAMETER)
		target = bound_to(p, n->extra);
	else if (n->kind >= NODE_EXPANSION && n->kind <= NODE_CV)
		target = rebind(p, n->a, depth + 1);
	else
		return n;
	if (!target || target == n->a)
		return n;
	copy = oa_itanium_node(p, n->kind, target, n->b);
	if (copy)
		copy->extra = n->extra;
	return copy;
}

/* S_, S0_ … or an abbreviation of the standard library (not St). */
static struct node *substitution(struct parser *p)
{
	char c = peek(p, 1);
	u64 index = 0;

	p->at++;
	for (u32 i = 0; i < sizeof(standard) / sizeof(*standard); i++) {
		if (standard[i].code != c)
			continue;
		p->at++;
		if (standard[i].name && (peek(p, 0) == 'C' || peek(p, 0) == 'D'))
			return spelled_out(p, standard[i].name, standard[i].arguments);
		return abi_tags(p, literal_text(p, standard[i].text));
	}
	if (!oa_itanium_eat(p, "_")) {
		for (; peek(p, 0) != '_'; p->at++) {
			c = peek(p, 0);
			if (!is_digit(c) && !(c >= 'A' && c <= 'Z'))
				return oa_itanium_fail(p);
			index = index * 36 + (u64)(is_digit(c) ? c - '0' : c - 'A' + 10);
			if (index > MAX_SUBSTITUTIONS)
				return oa_itanium_fail(p);
		}
		p->at++;
		index++;
	}
	if (index >= p->substitution_count)
		return oa_itanium_fail(p);
	return rebind(p, p->substitutions[index], 0);
}

/* T_, T0_ …: found in the arguments read last, or known only later (conversions). */
struct node *oa_itanium_parameter(struct parser *p)
{
	struct node *n = oa_itanium_node(p, NODE_PARAMETER, NULL, NULL);
	u32 index;

	p->at++;
	if (peek(p, 0) == 'L')
		return oa_itanium_fail(p);
	index = oa_itanium_sequence(p);
	if (!n || p->failed)
		return NULL;
	n->extra = index;
	if (p->in_lambda)
		return n;
	n->a = bound_to(p, index);
	if (!n->a) {
		if (!p->may_be_forward || p->forward_count >= MAX_FORWARD)
			return oa_itanium_fail(p);
		p->forward[p->forward_count++] = n;
	}
	return n;
}

static struct node *template_argument(struct parser *p)
{
	struct node *n, *list = NULL, **tail = &list;

	switch (peek(p, 0)) {
	case 'X':
		p->at++;
		n = oa_itanium_expression(p);
		return oa_itanium_eat(p, "E") ? n : oa_itanium_fail(p);
	case 'L':
		return oa_itanium_literal(p);
	case 'J':
	case 'I':
		p->at++;
		while (!p->failed && !oa_itanium_eat(p, "E")) {
			n = template_argument(p);
			*tail = oa_itanium_node(p, NODE_LIST, n, NULL);
			if (!n || !*tail)
				return oa_itanium_fail(p);
			tail = &(*tail)->b;
		}
		return oa_itanium_node(p, NODE_PACK, list, NULL);
	default:
		return oa_itanium_type(p);
	}
}

/* I … E; those of a function's name are what T_ means from then on. */
struct node *oa_itanium_arguments(struct parser *p, int is_name)
{
	struct node *list = NULL, **tail = &list;

	if (!oa_itanium_eat(p, "I") || !oa_itanium_enter(p))
		return oa_itanium_fail(p);
	while (!p->failed && !oa_itanium_eat(p, "E")) {
		struct node *n = template_argument(p);

		*tail = oa_itanium_node(p, NODE_LIST, n, NULL);
		if (!n || !*tail)
			return oa_itanium_fail(p);
		tail = &(*tail)->b;
	}
	p->depth--;
	if (is_name && !p->failed)
		p->arguments = list;
	/* An empty list must not look like a failure. */
	return p->failed ? NULL
	       : list	 ? list
			 : oa_itanium_node(p, NODE_LIST, oa_itanium_node(p, NODE_PACK, NULL, NULL),
					   NULL);
}

static struct node *with_arguments(struct parser *p, struct node *name, struct name_state *state)
{
	struct node *arguments = oa_itanium_arguments(p, state->is_entity);

	state->ends_with_arguments = 1;
	return arguments ? oa_itanium_node(p, NODE_TEMPLATE, name, arguments) : NULL;
}

u32 oa_itanium_qualifiers(struct parser *p)
{
	u32 found = 0;

	if (oa_itanium_eat(p, "r"))
		found |= QUALIFIER_RESTRICT;
	if (oa_itanium_eat(p, "V"))
		found |= QUALIFIER_VOLATILE;
	if (oa_itanium_eat(p, "K"))
		found |= QUALIFIER_CONST;
	return found;
}

/* One step of a nested name: gives the name so far, extended. */
static struct node *nested_step(struct parser *p, struct node *name, struct name_state *state)
{
	char c = peek(p, 0);
	struct node *part;

	if (c == 'I') {
		name = name ? with_arguments(p, name, state) : oa_itanium_fail(p);
		return oa_itanium_remember(p, name);
	}
	state->ends_with_arguments = 0;
	state->has_no_return = 0;
	if (c == 'S' && peek(p, 1) != 't')
		return name ? oa_itanium_fail(p) : substitution(p);
	if (c == 'S') {
		p->at += 2;
		return name ? oa_itanium_fail(p) : literal_text(p, "std");
	}
	if (c == 'T')
		return name ? oa_itanium_fail(p) : oa_itanium_remember(p, oa_itanium_parameter(p));
	if (c == 'D' && (peek(p, 1) == 't' || peek(p, 1) == 'T'))
		return name ? oa_itanium_fail(p) : oa_itanium_remember(p, oa_itanium_decltype(p));
	part = unqualified(p, name, state);
	if (!part)
		return NULL;
	return oa_itanium_remember(p, name ? oa_itanium_node(p, NODE_QUALIFIED, name, part) : part);
}

static struct node *nested_name(struct parser *p, struct name_state *state)
{
	struct node *name = NULL;

	p->at++;
	state->qualifiers = oa_itanium_qualifiers(p);
	if (oa_itanium_eat(p, "R"))
		state->qualifiers |= QUALIFIER_LVALUE;
	else if (oa_itanium_eat(p, "O"))
		state->qualifiers |= QUALIFIER_RVALUE;
	while (!p->failed && !oa_itanium_eat(p, "E")) {
		if (peek(p, 0) == 'M') { /* a lambda in a member's initializer */
			p->at++;
			continue;
		}
		name = nested_step(p, name, state);
	}
	if (p->failed || !name)
		return oa_itanium_fail(p);
	if (p->substitution_count && p->substitutions[p->substitution_count - 1] == name)
		p->substitution_count--; /* the whole name is no prefix */
	return name;
}

static void discriminator(struct parser *p)
{
	if (oa_itanium_eat(p, "__")) {
		oa_itanium_number(p);
		oa_itanium_eat(p, "_");
	} else if (peek(p, 0) == '_' && is_digit(peek(p, 1))) {
		p->at += 2;
	}
}

static struct node *local_name(struct parser *p, struct name_state *state)
{
	struct node *saved = p->arguments, *scope, *entity;

	p->at++;
	scope = oa_itanium_encoding(p, 0);
	p->arguments = saved;
	if (!scope || !oa_itanium_eat(p, "E"))
		return oa_itanium_fail(p);
	if (oa_itanium_eat(p, "s")) {
		discriminator(p);
		return oa_itanium_node(p, NODE_LOCAL, scope, literal_text(p, "string literal"));
	}
	if (oa_itanium_eat(p, "d")) {
		entity = oa_itanium_text(p, NODE_NUMBERED, "{default arg#", 13, NULL);
		if (!entity)
			return NULL;
		entity->extra = oa_itanium_sequence(p) + 1;
		scope = oa_itanium_node(p, NODE_LOCAL, scope, entity);
	}
	entity = oa_itanium_name(p, state);
	discriminator(p);
	return entity ? oa_itanium_node(p, NODE_LOCAL, scope, entity) : NULL;
}

struct node *oa_itanium_name(struct parser *p, struct name_state *state)
{
	struct node *name;
	char c = peek(p, 0);

	if (!oa_itanium_enter(p))
		return NULL;
	if (c == 'N') {
		name = nested_name(p, state);
	} else if (c == 'Z') {
		name = local_name(p, state);
	} else if (c == 'S' && peek(p, 1) != 't') {
		name = substitution(p);
		if (name && peek(p, 0) == 'I')
			name = with_arguments(p, name, state);
		else if (state->is_entity)
			name = oa_itanium_fail(p);
	} else {
		int is_std = oa_itanium_eat(p, "St");

		name = unqualified(p, NULL, state);
		if (name && is_std)
			name = oa_itanium_node(p, NODE_QUALIFIED, literal_text(p, "std"), name);
		if (name && peek(p, 0) == 'I')
			name = with_arguments(p, oa_itanium_remember(p, name), state);
	}
	p->depth--;
	return p->failed ? NULL : name;
}
