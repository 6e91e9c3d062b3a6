/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* Types in C++ names. */
#include "itanium_parser.h"

#include <string.h>

static char peek(const struct parser *p, u32 ahead)
{
	return p->end - p->at > ahead ? p->at[ahead] : '\0';
}

static struct node *text_node(struct parser *p, const char *text)
{
	return oa_itanium_text(p, NODE_TEXT, text, strlen(text), NULL);
}

static struct node *builtin(struct parser *p)
{
	static const char *const names[26] = {"signed char",
					      "bool",
					      "char",
					      "double",
					      "long double",
					      "float",
					      "__float128",
					      "unsigned char",
					      "int",
					      "unsigned int",
					      NULL,
					      "long",
					      "unsigned long",
					      "__int128",
					      "unsigned __int128",
					      NULL,
					      NULL,
					      NULL,
					      "short",
					      "unsigned short",
					      NULL,
					      "void",
					      "wchar_t",
					      "long long",
					      "unsigned long long",
					      "..."};
	static const char *const second[][2] = {{"Da", "auto"},	     {"Dc", "decltype(auto)"},
						{"Dd", "decimal64"}, {"De", "decimal128"},
						{"Df", "decimal32"}, {"Dh", "half"},
						{"Di", "char32_t"},  {"Ds", "char16_t"},
						{"Du", "char8_t"},   {"Dn", "decltype(nullptr)"}};
	char c = peek(p, 0);

	if (c >= 'a' && c <= 'z' && names[c - 'a']) {
		p->at++;
		return text_node(p, names[c - 'a']);
	}
	for (u32 i = 0; i < sizeof(second) / sizeof(*second); i++)
		if (oa_itanium_eat(p, second[i][0]))
			return text_node(p, second[i][1]);
	if (oa_itanium_eat(p, "DF")) { /* _Float16, std::bfloat16_t … */
		u64 bits = oa_itanium_number(p);

		if (oa_itanium_eat(p, "b") && bits == 16)
			return text_node(p, "std::bfloat16_t");
		if (!oa_itanium_eat(p, "_"))
			return oa_itanium_fail(p);
		return text_node(p, bits == 16	 ? "_Float16"
				    : bits == 32 ? "_Float32"
				    : bits == 64 ? "_Float64"
						 : "_Float128");
	}
	return NULL;
}

/* F [Y] type … [R|O] E; the first type is what it returns. */
static struct node *function_type(struct parser *p, u32 qualifiers)
{
	struct node *function = oa_itanium_node(p, NODE_FUNCTION, NULL, NULL), **tail;

	p->at++;
	oa_itanium_eat(p, "Y");
	if (!function)
		return NULL;
	function->a = oa_itanium_type(p);
	tail = &function->b;
	while (!p->failed && !oa_itanium_eat(p, "E")) {
		if (peek(p, 1) == 'E' && (peek(p, 0) == 'R' || peek(p, 0) == 'O')) {
			qualifiers |= peek(p, 0) == 'R' ? QUALIFIER_LVALUE : QUALIFIER_RVALUE;
			p->at++;
			continue;
		}
		struct node *type = oa_itanium_type(p);

		*tail = oa_itanium_node(p, NODE_LIST, type, NULL);
		if (!type || !*tail)
			return oa_itanium_fail(p);
		tail = &(*tail)->b;
	}
	function->extra = qualifiers;
	return function->b ? function : oa_itanium_fail(p);
}

static struct node *array_type(struct parser *p)
{
	struct node *size = NULL, *element;
	const char *start = ++p->at;

	if (peek(p, 0) >= '0' && peek(p, 0) <= '9') {
		oa_itanium_number(p);
		size = oa_itanium_text(p, NODE_TEXT, start, (u64)(p->at - start), NULL);
	} else if (peek(p, 0) != '_') {
		size = oa_itanium_expression(p);
	}
	if (!oa_itanium_eat(p, "_"))
		return oa_itanium_fail(p);
	element = oa_itanium_type(p);
	return element ? oa_itanium_node(p, NODE_ARRAY, element, size) : NULL;
}

static struct node *qualified_type(struct parser *p)
{
	u32 qualifiers = oa_itanium_qualifiers(p);
	struct node *n, *inner;

	if (peek(p, 0) == 'F')
		return function_type(p, qualifiers);
	if (peek(p, 0) == 'D' && peek(p, 1) == 'o' && peek(p, 2) == 'F') {
		p->at += 2;
		return function_type(p, qualifiers | QUALIFIER_NOEXCEPT);
	}
	inner = oa_itanium_type(p);
	n = inner ? oa_itanium_node(p, NODE_CV, inner, NULL) : NULL;
	if (n)
		n->extra = qualifiers;
	return n;
}

static struct node *indirect_type(struct parser *p, u8 kind)
{
	struct node *target;

	p->at++;
	target = oa_itanium_type(p);
	return target ? oa_itanium_node(p, kind, target, NULL) : NULL;
}

static struct node *suffixed_type(struct parser *p, const char *suffix)
{
	struct node *inner;

	p->at++;
	inner = oa_itanium_type(p);
	return inner ? oa_itanium_text(p, NODE_SUFFIX, suffix, strlen(suffix), inner) : NULL;
}

/* Dt or DT, an expression, E. */
struct node *oa_itanium_decltype(struct parser *p)
{
	struct node *expression;

	p->at += 2;
	expression = oa_itanium_expression(p);
	if (!expression || !oa_itanium_eat(p, "E"))
		return oa_itanium_fail(p);
	return oa_itanium_text(p, NODE_WRAPPED, "decltype", 8, expression);
}

static struct node *d_type(struct parser *p)
{
	struct node *inner;

	switch (peek(p, 1)) {
	case 'p':
		p->at += 2;
		inner = oa_itanium_type(p);
		return inner ? oa_itanium_node(p, NODE_EXPANSION, inner, NULL) : NULL;
	case 't':
	case 'T':
		return oa_itanium_decltype(p);
	case 'o':
		return peek(p, 2) == 'F' ? qualified_type(p) : oa_itanium_fail(p);
	case 'v': {
		const char *start = p->at += 2;
		u64 length;

		oa_itanium_number(p);
		length = (u64)(p->at - start);
		if (!oa_itanium_eat(p, "_"))
			return oa_itanium_fail(p);
		inner = oa_itanium_type(p);
		inner = inner ? oa_itanium_text(p, NODE_SUFFIX, " __vector(", 10, inner) : NULL;
		inner = inner ? oa_itanium_node(p, NODE_LIST, inner, NULL) : NULL;
		if (!inner)
			return NULL;
		inner = oa_itanium_text(p, NODE_SUFFIX, start, length, inner->a);
		return inner ? oa_itanium_text(p, NODE_SUFFIX, ")", 1, inner) : NULL;
	}
	default:
		return oa_itanium_fail(p);
	}
}

static struct node *parameter_type(struct parser *p)
{
	struct node *n, *arguments;

	if (peek(p, 1) && strchr("sue", peek(p, 1))) {
		struct name_state state = {0};

		p->at += 2; /* struct, union, enum: not shown */
		return oa_itanium_name(p, &state);
	}
	n = oa_itanium_parameter(p);
	if (!n || peek(p, 0) != 'I' || p->may_be_forward)
		return n;
	n = oa_itanium_remember(p, n);
	arguments = oa_itanium_arguments(p, 0);
	return arguments ? oa_itanium_node(p, NODE_TEMPLATE, n, arguments) : NULL;
}

static struct node *vendor_type(struct parser *p)
{
	struct node *name, *inner;

	if (oa_itanium_eat(p, "u"))
		return oa_itanium_source(p);
	p->at++;
	name = oa_itanium_source(p);
	inner = name ? oa_itanium_type(p) : NULL;
	inner = inner ? oa_itanium_text(p, NODE_SUFFIX, " ", 1, inner) : NULL;
	return inner ? oa_itanium_text(p, NODE_SUFFIX, name->text, name->length, inner) : NULL;
}

static struct node *member_pointer(struct parser *p)
{
	struct node *scope, *member;

	p->at++;
	scope = oa_itanium_type(p);
	member = scope ? oa_itanium_type(p) : NULL;
	return member ? oa_itanium_node(p, NODE_MEMBER, scope, member) : NULL;
}

/* Everything that later text may refer to. */
static struct node *compound_type(struct parser *p)
{
	struct name_state state = {0};

	switch (peek(p, 0)) {
	case 'r':
	case 'V':
	case 'K':
		return qualified_type(p);
	case 'P':
		return indirect_type(p, NODE_POINTER);
	case 'R':
		return indirect_type(p, NODE_LVALUE);
	case 'O':
		return indirect_type(p, NODE_RVALUE);
	case 'C':
		return suffixed_type(p, " _Complex");
	case 'G':
		return suffixed_type(p, " _Imaginary");
	case 'F':
		return function_type(p, 0);
	case 'A':
		return array_type(p);
	case 'M':
		return member_pointer(p);
	case 'T':
		return parameter_type(p);
	case 'D':
		return d_type(p);
	case 'u':
		return vendor_type(p);
	case 'U':
		return peek(p, 1) == 'l' || peek(p, 1) == 't' ? oa_itanium_name(p, &state)
							      : vendor_type(p);
	default:
		return oa_itanium_name(p, &state);
	}
}

struct node *oa_itanium_type(struct parser *p)
{
	struct node *n;

	if (!oa_itanium_enter(p))
		return NULL;
	n = builtin(p);
	if (!n && !p->failed) {
		int is_reference = peek(p, 0) == 'S' && peek(p, 1) != 't';

		n = compound_type(p);
		/* S_ by itself is nothing new; with arguments it is. */
		if (n && (!is_reference || p->at[-1] == 'E'))
			n = oa_itanium_remember(p, n);
	}
	p->depth--;
	return p->failed ? NULL : n;
}

/* Ut: a type without a name; Ul: that of a lambda, with what it takes. */
struct node *oa_itanium_unnamed(struct parser *p)
{
	struct node *n, *list = NULL, **tail = &list;

	if (oa_itanium_eat(p, "Ut")) {
		n = oa_itanium_node(p, NODE_UNNAMED, NULL, NULL);
		if (n)
			n->extra = oa_itanium_sequence(p) + 1;
		return n;
	}
	if (!oa_itanium_eat(p, "Ul"))
		return oa_itanium_fail(p);
	p->in_lambda++;
	while (!p->failed && !oa_itanium_eat(p, "E")) {
		struct node *type = oa_itanium_type(p);

		*tail = oa_itanium_node(p, NODE_LIST, type, NULL);
		if (!type || !*tail)
			return oa_itanium_fail(p);
		tail = &(*tail)->b;
	}
	p->in_lambda--;
	n = oa_itanium_node(p, NODE_LAMBDA, list, NULL);
	if (n)
		n->extra = oa_itanium_sequence(p) + 1;
	return n;
}
