/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the tree of a C++ name the way binutils does. Types have a left and a
 * right part, since declarators surround what they declare.
 */
#include "itanium.h"

#include <string.h>

static void print(struct printer *p, const struct node *n);
static void print_left(struct printer *p, const struct node *n);
static void print_right(struct printer *p, const struct node *n);

static void put(struct printer *p, const char *text)
{
	oa_write_text(p->to, text);
}

static char last(const struct printer *p)
{
	return p->to->used ? p->to->out[p->to->used - 1] : '\0';
}

static void print_qualifiers(struct printer *p, u32 qualifiers)
{
	static const char *const names[] = {" const", " volatile", " __restrict",
					    " &",     " &&",	   " noexcept"};

	for (u32 i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (qualifiers >> i & 1)
			put(p, names[i]);
}

/* Write items with commas between; an empty pack leaves no trace. */
static void print_list(struct printer *p, const struct node *list)
{
	u64 begin = p->to->used;

	for (; list && !p->to->full; list = list->b) {
		u64 before = p->to->used, start;

		if (before != begin)
			put(p, ", ");
		start = p->to->used;
		print(p, list->a);
		if (p->to->used == start && !p->to->full)
			p->to->used = before;
	}
}

static void print_template(struct printer *p, const struct node *n)
{
	print(p, n->a);
	put(p, last(p) == '<' ? " <" : "<");
	print_list(p, n->b);
	put(p, last(p) == '>' ? " >" : ">");
}

static void print_expansion(struct printer *p, const struct node *n)
{
	u32 expanding = p->expanding, index = p->pack_index;
	s64 size = oa_itanium_pack_size(p, n->a);

	if (size < 0) {
		print(p, n->a);
		put(p, "...");
		return;
	}
	p->expanding = 1;
	for (s64 i = 0; i < size && oa_write_step(p->to); i++) {
		if (i)
			put(p, ", ");
		p->pack_index = (u32)i;
		print(p, n->a);
	}
	p->expanding = expanding;
	p->pack_index = index;
}

static void print_parameters(struct printer *p, const struct node *function)
{
	const struct node *list = function->b;

	put(p, "(");
	if (list && !list->b && list->a->kind == NODE_TEXT && list->a->length == 4 &&
	    !memcmp(list->a->text, "void", 4))
		list = NULL;
	print_list(p, list);
	put(p, ")");
	print_qualifiers(p, function->extra);
}

/* `int`, `unsigned long` … have short forms; everything else shows its type. */
static void print_literal(struct printer *p, const struct node *n)
{
	static const char *const suffixes[][2] = {
		{"int", ""},	     {"unsigned int", "u"},
		{"long", "l"},	     {"unsigned long", "ul"},
		{"long long", "ll"}, {"unsigned long long", "ull"}};
	const struct node *type = oa_itanium_resolve(p, n->a, NULL);
	const char *suffix = NULL;
	u64 size = n->length;
	int negative = size && n->text[0] == 'n';

	if (type && type->kind == NODE_TEXT && type->length == 4 && size == 1 &&
	    !memcmp(type->text, "bool", 4) && (*n->text == '0' || *n->text == '1')) {
		put(p, *n->text == '1' ? "true" : "false");
		return;
	}
	for (u32 i = 0; type && type->kind == NODE_TEXT && i < 6; i++)
		if (type->length == strlen(suffixes[i][0]) &&
		    !memcmp(type->text, suffixes[i][0], type->length))
			suffix = suffixes[i][1];
	if (!suffix) {
		put(p, "(");
		print(p, n->a);
		put(p, ")");
	}
	if (negative)
		put(p, "-");
	oa_write(p->to, n->text + negative, size - (u64)negative);
	put(p, suffix ? suffix : "");
}

static void print_indirect_left(struct printer *p, const struct node *target, const char *mark)
{
	print_left(p, target);
	if (oa_itanium_is_bracketed(p, target))
		put(p, last(p) == ' ' || last(p) == '(' || last(p) == '*' ? "(" : " (");
	put(p, mark);
}

static void print_indirect_right(struct printer *p, const struct node *target)
{
	if (oa_itanium_is_bracketed(p, target))
		put(p, ")");
	print_right(p, target);
}

static void print_wrapped(struct printer *p, const struct node *n)
{
	int is_simple =
		n->kind == NODE_TEXT || n->kind == NODE_QUALIFIED || n->kind == NODE_NUMBERED;

	put(p, is_simple ? "" : "(");
	print(p, n);
	put(p, is_simple ? "" : ")");
}

static void print_name(struct printer *p, const struct node *n)
{
	switch (n->kind) {
	case NODE_QUALIFIED:
	case NODE_LOCAL:
		print(p, n->a);
		put(p, "::");
		print(p, n->b);
		break;
	case NODE_ENCODING:
		if (n->b->a) {
			print_left(p, n->b->a);
			put(p, oa_itanium_surrounds(p, n->b->a) ? "" : " ");
		}
		print(p, n->a);
		print_parameters(p, n->b);
		if (n->b->a)
			print_right(p, n->b->a);
		break;
	case NODE_LAMBDA:
		put(p, "{lambda(");
		p->in_lambda++;
		print_list(p, n->a && !n->a->b && n->a->a->kind == NODE_TEXT &&
					      n->a->a->length == 4 &&
					      !memcmp(n->a->a->text, "void", 4)
				      ? NULL
				      : n->a);
		p->in_lambda--;
		put(p, ")#");
		oa_write_number(p->to, n->extra);
		put(p, "}");
		break;
	case NODE_UNNAMED:
		put(p, "{unnamed type#");
		oa_write_number(p->to, n->extra);
		put(p, "}");
		break;
	case NODE_DESTRUCTOR:
		put(p, "~");
		print(p, n->a);
		break;
	case NODE_CONVERSION:
		put(p, "operator ");
		print(p, n->a);
		break;
	case NODE_TAGGED:
		print(p, n->a);
		put(p, "[abi:");
		oa_write(p->to, n->text, n->length);
		put(p, "]");
		break;
	default:
		print(p, n->a);
		put(p, " [clone ");
		oa_write(p->to, n->text, n->length);
		put(p, "]");
	}
}

static void print_expression(struct printer *p, const struct node *n)
{
	switch (n->kind) {
	case NODE_LITERAL:
		print_literal(p, n);
		break;
	case NODE_UNARY:
		oa_write(p->to, n->text, n->length);
		if (n->a->kind == NODE_ENCODING && n->text[0] == '&')
			print(p, n->a->a);
		else if (n->a->kind == NODE_ENCODING || n->a->kind == NODE_BINARY)
			print_wrapped(p, n->a);
		else
			print(p, n->a);
		break;
	case NODE_BINARY:
		print_wrapped(p, n->a);
		oa_write(p->to, n->text, n->length);
		print_wrapped(p, n->b);
		break;
	case NODE_CALL:
		if (n->a->kind == NODE_TEXT || n->a->kind == NODE_QUALIFIED ||
		    n->a->kind == NODE_TEMPLATE)
			print(p, n->a);
		else
			print_wrapped(p, n->a);
		put(p, "(");
		print_list(p, n->b);
		put(p, ")");
		break;
	case NODE_WRAPPED:
		oa_write(p->to, n->text, n->length);
		put(p, " ");
		print_wrapped(p, n->a);
		break;
	default:
		oa_write(p->to, n->text, n->length);
		oa_write_number(p->to, n->extra);
		put(p, "}");
	}
}

static void print_left(struct printer *p, const struct node *n)
{
	u32 expanding = p->expanding, through;
	const struct node *inner;
	u8 kind;

	n = oa_itanium_resolve(p, n, &through);
	if (!n || !oa_itanium_print_enter(p))
		return;
	if (through)
		p->expanding = 0;
	p->depth++;
	switch (n->kind) {
	case NODE_TEXT:
		oa_write(p->to, n->text, n->length);
		break;
	case NODE_TEMPLATE:
		print_template(p, n);
		break;
	case NODE_LIST:
		print_list(p, n);
		break;
	case NODE_PACK:
		print_list(p, n->a);
		break;
	case NODE_EXPANSION:
		print_expansion(p, n);
		break;
	case NODE_POINTER:
		print_indirect_left(p, n->a, "*");
		break;
	case NODE_LVALUE:
	case NODE_RVALUE:
		n = oa_itanium_collapse(p, n, &kind);
		print_indirect_left(p, n, kind == NODE_LVALUE ? "&" : "&&");
		break;
	case NODE_CV:
		print_left(p, n->a);
		inner = oa_itanium_resolve(p, n->a, NULL);
		print_qualifiers(p, inner && inner->kind == NODE_CV ? n->extra & ~inner->extra
								    : n->extra);
		break;
	case NODE_SUFFIX:
		print(p, n->a);
		oa_write(p->to, n->text, n->length);
		break;
	case NODE_PREFIX:
		oa_write(p->to, n->text, n->length);
		print(p, n->a);
		break;
	case NODE_ARRAY:
		print_left(p, n->a);
		break;
	case NODE_FUNCTION:
		if (n->a) {
			print_left(p, n->a);
			put(p, oa_itanium_surrounds(p, n->a) ? "" : " ");
		}
		break;
	case NODE_MEMBER:
		print_left(p, n->b);
		if (oa_itanium_is_bracketed(p, n->b))
			put(p, last(p) == ' ' ? "(" : " (");
		else
			put(p, " ");
		print(p, n->a);
		put(p, "::*");
		break;
	case NODE_PARAMETER:
		put(p, "auto:");
		oa_write_number(p->to, n->extra + 1);
		break;
	default:
		if (n->kind >= NODE_LITERAL)
			print_expression(p, n);
		else
			print_name(p, n);
	}
	p->depth--;
	p->expanding = expanding;
}

static void print_right(struct printer *p, const struct node *n)
{
	u32 expanding = p->expanding, through;
	u8 kind;

	n = oa_itanium_resolve(p, n, &through);
	if (!n || !oa_itanium_print_enter(p))
		return;
	if (through)
		p->expanding = 0;
	p->depth++;
	switch (n->kind) {
	case NODE_POINTER:
		print_indirect_right(p, n->a);
		break;
	case NODE_LVALUE:
	case NODE_RVALUE:
		print_indirect_right(p, oa_itanium_collapse(p, n, &kind));
		break;
	case NODE_CV:
		print_right(p, n->a);
		break;
	case NODE_ARRAY:
		put(p, last(p) == ']' ? "[" : " [");
		if (n->b)
			print(p, n->b);
		put(p, "]");
		print_right(p, n->a);
		break;
	case NODE_FUNCTION:
		print_parameters(p, n);
		print_right(p, n->a);
		break;
	case NODE_MEMBER:
		if (oa_itanium_is_bracketed(p, n->b))
			put(p, ")");
		print_right(p, n->b);
		break;
	default:
		break;
	}
	p->depth--;
	p->expanding = expanding;
}

static void print(struct printer *p, const struct node *n)
{
	if (p->to->full)
		return;
	print_left(p, n);
	print_right(p, n);
}

void oa_itanium_print(struct oa_writer *to, const struct node *root, const struct node *arguments)
{
	struct printer p = {.to = to, .arguments = arguments};

	print(&p, root);
}
