/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Operators, literals and those expressions of C++ names that occur in practice;
 * a name with another one is refused.
 */
#include "itanium_parser.h"

#include <string.h>

enum arity { UNARY, BINARY, NEITHER };

static const struct {
	char code[3];
	u8 arity;
	const char *text;
} operators[] = {
	{"aN", BINARY, "&="},	    {"aS", BINARY, "="},	  {"aa", BINARY, "&&"},
	{"ad", UNARY, "&"},	    {"an", BINARY, "&"},	  {"aw", NEITHER, " co_await"},
	{"cl", NEITHER, "()"},	    {"cm", BINARY, ","},	  {"co", UNARY, "~"},
	{"dV", BINARY, "/="},	    {"da", NEITHER, " delete[]"}, {"de", UNARY, "*"},
	{"dl", NEITHER, " delete"}, {"dv", BINARY, "/"},	  {"eO", BINARY, "^="},
	{"eo", BINARY, "^"},	    {"eq", BINARY, "=="},	  {"ge", BINARY, ">="},
	{"gt", BINARY, ">"},	    {"ix", NEITHER, "[]"},	  {"lS", BINARY, "<<="},
	{"le", BINARY, "<="},	    {"ls", BINARY, "<<"},	  {"lt", BINARY, "<"},
	{"mI", BINARY, "-="},	    {"mL", BINARY, "*="},	  {"mi", BINARY, "-"},
	{"ml", BINARY, "*"},	    {"mm", NEITHER, "--"},	  {"na", NEITHER, " new[]"},
	{"ne", BINARY, "!="},	    {"ng", UNARY, "-"},		  {"nt", UNARY, "!"},
	{"nw", NEITHER, " new"},    {"oR", BINARY, "|="},	  {"oo", BINARY, "||"},
	{"or", BINARY, "|"},	    {"pL", BINARY, "+="},	  {"pl", BINARY, "+"},
	{"pm", NEITHER, "->*"},	    {"pp", NEITHER, "++"},	  {"ps", UNARY, "+"},
	{"pt", NEITHER, "->"},	    {"qu", NEITHER, "?"},	  {"rM", BINARY, "%="},
	{"rS", BINARY, ">>="},	    {"rm", BINARY, "%"},	  {"rs", BINARY, ">>"},
	{"ss", BINARY, "<=>"},
};

static char peek(const struct parser *p, u32 ahead)
{
	return p->end - p->at > ahead ? p->at[ahead] : '\0';
}

static struct node *text_node(struct parser *p, const char *text)
{
	return oa_itanium_text(p, NODE_TEXT, text, strlen(text), NULL);
}

static s32 find_operator(struct parser *p)
{
	for (u32 i = 0; i < sizeof(operators) / sizeof(*operators); i++)
		if (oa_itanium_eat(p, operators[i].code))
			return (s32)i;
	return -1;
}

/* The name of an operator function. */
struct node *oa_itanium_operator(struct parser *p, struct name_state *state)
{
	struct node *type;
	s32 index;

	if (oa_itanium_eat(p, "cv")) {
		state->has_no_return = 1;
		p->may_be_forward++;
		type = oa_itanium_type(p);
		p->may_be_forward--;
		return type ? oa_itanium_node(p, NODE_CONVERSION, type, NULL) : NULL;
	}
	if (oa_itanium_eat(p, "li")) {
		type = oa_itanium_source(p);
		return type ? oa_itanium_text(p, NODE_PREFIX, "operator\"\" ", 11, type) : NULL;
	}
	index = find_operator(p);
	if (index < 0)
		return oa_itanium_fail(p);
	return oa_itanium_text(p, NODE_PREFIX, "operator", 8, text_node(p, operators[index].text));
}

/* L type value E, or L_Z encoding E. */
struct node *oa_itanium_literal(struct parser *p)
{
	const char *start;
	struct node *type, *n;

	p->at++;
	if (oa_itanium_eat(p, "_Z")) {
		n = oa_itanium_encoding(p, 0);
		return n && oa_itanium_eat(p, "E") ? n : oa_itanium_fail(p);
	}
	type = oa_itanium_type(p);
	for (start = p->at; peek(p, 0) && peek(p, 0) != 'E';)
		p->at++;
	n = type ? oa_itanium_text(p, NODE_LITERAL, start, (u64)(p->at - start), type) : NULL;
	return n && oa_itanium_eat(p, "E") ? n : oa_itanium_fail(p);
}

static struct node *list_until_end(struct parser *p)
{
	struct node *list = NULL, **tail = &list;

	while (!p->failed && !oa_itanium_eat(p, "E")) {
		struct node *item = oa_itanium_expression(p);

		*tail = oa_itanium_node(p, NODE_LIST, item, NULL);
		if (!item || !*tail)
			return oa_itanium_fail(p);
		tail = &(*tail)->b;
	}
	return list;
}

/* fp, fL: a parameter of the function; fpT is `this`. */
static struct node *function_parameter(struct parser *p)
{
	struct node *n;

	p->at += 2;
	if (oa_itanium_eat(p, "T"))
		return text_node(p, "this");
	oa_itanium_qualifiers(p);
	n = oa_itanium_text(p, NODE_NUMBERED, "{parm#", 6, NULL);
	if (n)
		n->extra = oa_itanium_sequence(p) + 1;
	return n;
}

static struct node *plain_name(struct parser *p)
{
	struct node *name = oa_itanium_source(p), *arguments;

	if (!name || peek(p, 0) != 'I')
		return name;
	arguments = oa_itanium_arguments(p, 0);
	return arguments ? oa_itanium_node(p, NODE_TEMPLATE, name, arguments) : NULL;
}

/* sr: a member of something that depends: of a type, or of names up to E. */
static struct node *unresolved_member(struct parser *p)
{
	int is_nested = oa_itanium_eat(p, "N");
	int is_path = peek(p, 0) >= '0' && peek(p, 0) <= '9';
	struct node *scope = is_path ? plain_name(p) : oa_itanium_type(p), *name;

	while (scope && (is_path || is_nested) && !oa_itanium_eat(p, "E")) {
		name = plain_name(p);
		scope = name ? oa_itanium_node(p, NODE_QUALIFIED, scope, name) : NULL;
	}
	name = scope ? plain_name(p) : NULL;
	return name ? oa_itanium_node(p, NODE_QUALIFIED, scope, name) : NULL;
}

/* sZ: how many arguments a pack has. */
static struct node *pack_size(struct parser *p)
{
	static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
	struct node *pack = peek(p, 0) == 'T' ? oa_itanium_parameter(p) : NULL;
	u32 size = 0;

	if (!pack || !pack->a || pack->a->kind != NODE_PACK)
		return oa_itanium_fail(p);
	for (struct node *item = pack->a->a; item; item = item->b)
		size++;
	return size < 10 ? text_node(p, digits[size]) : oa_itanium_fail(p);
}

static struct node *wrapped(struct parser *p, const char *text, struct node *inner)
{
	return inner ? oa_itanium_text(p, NODE_WRAPPED, text, strlen(text), inner) : NULL;
}

static struct node *joined(struct parser *p, const char *text)
{
	struct node *left = oa_itanium_expression(p), *right, *n;

	right = left ? oa_itanium_expression(p) : NULL;
	n = right ? oa_itanium_text(p, NODE_BINARY, text, strlen(text), left) : NULL;
	if (n)
		n->b = right;
	return n;
}

static struct node *operation(struct parser *p)
{
	struct node *inner;
	s32 index = find_operator(p);

	if (index < 0 || operators[index].arity == NEITHER)
		return oa_itanium_fail(p);
	if (operators[index].arity == BINARY)
		return joined(p, operators[index].text);
	inner = oa_itanium_expression(p);
	return inner ? oa_itanium_text(p, NODE_UNARY, operators[index].text,
				       strlen(operators[index].text), inner)
		     : NULL;
}

static struct node *keyword_expression(struct parser *p)
{
	struct node *n;

	if (oa_itanium_eat(p, "cl")) {
		n = oa_itanium_expression(p);
		return n ? oa_itanium_node(p, NODE_CALL, n, list_until_end(p)) : NULL;
	}
	if (oa_itanium_eat(p, "st"))
		return wrapped(p, "sizeof", oa_itanium_type(p));
	if (oa_itanium_eat(p, "sz"))
		return wrapped(p, "sizeof", oa_itanium_expression(p));
	if (oa_itanium_eat(p, "nx"))
		return wrapped(p, "noexcept", oa_itanium_expression(p));
	if (oa_itanium_eat(p, "sr"))
		return unresolved_member(p);
	if (oa_itanium_eat(p, "sZ"))
		return pack_size(p);
	if (oa_itanium_eat(p, "dt"))
		return joined(p, ".");
	if (oa_itanium_eat(p, "pt"))
		return joined(p, "->");
	if (oa_itanium_eat(p, "sp")) {
		n = oa_itanium_expression(p);
		return n ? oa_itanium_node(p, NODE_EXPANSION, n, NULL) : NULL;
	}
	return operation(p);
}

struct node *oa_itanium_expression(struct parser *p)
{
	struct node *n;
	char c = peek(p, 0);

	if (!oa_itanium_enter(p))
		return NULL;
	if (c == 'L')
		n = oa_itanium_literal(p);
	else if (c == 'T')
		n = oa_itanium_parameter(p);
	else if (c == 'f' && (peek(p, 1) == 'p' || peek(p, 1) == 'L'))
		n = peek(p, 1) == 'p' ? function_parameter(p) : oa_itanium_fail(p);
	else if (c >= '0' && c <= '9')
		n = plain_name(p);
	else
		n = keyword_expression(p);
	p->depth--;
	return p->failed ? NULL : n;
}
