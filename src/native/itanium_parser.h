/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_ITANIUM_PARSER_H
#define OA_ITANIUM_PARSER_H
/* What the parts of the parser of C++ names share; nothing for Python. */
#ifndef OA_CDEF
#include "itanium.h"

#define MAX_SUBSTITUTIONS 2048
#define MAX_FORWARD	  32

struct parser {
	const char *at, *end;
	struct node *arguments; /* what T_ means: a list */
	struct node *substitutions[MAX_SUBSTITUTIONS];
	u32 substitution_count;
	struct node *forward[MAX_FORWARD]; /* parameters whose arguments come later */
	u32 forward_count;
	u32 may_be_forward;
	u32 in_lambda;
	u32 depth;
	u32 used, room;
	u8 failed;
	struct node arena[];
};

/* What was seen of a name. */
struct name_state {
	u8 is_entity; /* of a function or variable, not of a type */
	u8 ends_with_arguments; /* so a function's first type is what it returns */
	u8 has_no_return; /* constructor, destructor, conversion */
	u32 qualifiers;
};

static inline int oa_itanium_enter(struct parser *p)
{
	if (p->failed || ++p->depth > OA_DEMANGLE_MAX_DEPTH)
		p->failed = 1;
	return !p->failed;
}

struct node *oa_itanium_node(struct parser *p, u8 kind, struct node *a, struct node *b);
struct node *oa_itanium_text(struct parser *p, u8 kind, const char *text, u64 length,
			     struct node *a);
int oa_itanium_eat(struct parser *p, const char *wanted);
void *oa_itanium_fail(struct parser *p);
u64 oa_itanium_number(struct parser *p);
struct node *oa_itanium_parameter(struct parser *p);
struct node *oa_itanium_arguments(struct parser *p, int is_name);
struct node *oa_itanium_name(struct parser *p, struct name_state *state);
struct node *oa_itanium_encoding(struct parser *p, int is_top);

struct node *oa_itanium_remember(struct parser *p, struct node *n);
struct node *oa_itanium_source(struct parser *p);
u32 oa_itanium_sequence(struct parser *p);
u32 oa_itanium_qualifiers(struct parser *p);

/* itanium_type.c */
struct node *oa_itanium_type(struct parser *p);
struct node *oa_itanium_unnamed(struct parser *p);
struct node *oa_itanium_decltype(struct parser *p);

/* itanium_expression.c */
struct node *oa_itanium_operator(struct parser *p, struct name_state *state);
struct node *oa_itanium_expression(struct parser *p);
struct node *oa_itanium_literal(struct parser *p);
#endif
#endif
