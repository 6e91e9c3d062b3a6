/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OA_ITANIUM_H
#define OA_ITANIUM_H
/* What the parser and the printer of C++ names share; nothing for Python. */
#ifndef OA_CDEF
#include "demangle.h"

enum node_kind {
	NODE_TEXT, /* text */
	NODE_QUALIFIED, /* a::b */
	NODE_TEMPLATE, /* a<b> */
	NODE_LIST, /* a, then b (a list or NULL) */
	NODE_PACK, /* a is a list: template arguments of one parameter */
	NODE_EXPANSION, /* a... */
	NODE_POINTER, /* a* */
	NODE_LVALUE, /* a& */
	NODE_RVALUE, /* a&& */
	NODE_CV, /* a with qualifiers `extra` */
	NODE_SUFFIX, /* a, then " text" or text */
	NODE_PREFIX, /* text, then a */
	NODE_ARRAY, /* a[b], b may be NULL */
	NODE_FUNCTION, /* returns a (or NULL), takes list b; `extra`: qualifiers */
	NODE_MEMBER, /* pointer to a member of a, of type b */
	NODE_ENCODING, /* function name a with NODE_FUNCTION b */
	NODE_LOCAL, /* a::b, where a is an encoding */
	NODE_LAMBDA, /* {lambda(a)#extra} */
	NODE_UNNAMED, /* {unnamed type#extra} */
	NODE_DESTRUCTOR, /* ~a */
	NODE_CONVERSION, /* operator a */
	NODE_PARAMETER, /* template parameter number `extra`; a once it is known */
	NODE_TAGGED, /* a[abi:text] */
	NODE_CLONE, /* a [clone text] */
	NODE_LITERAL, /* of type a with value text */
	NODE_UNARY, /* text(a) */
	NODE_BINARY, /* (a)text(b) */
	NODE_CALL, /* a(b) */
	NODE_WRAPPED, /* text (a) */
	NODE_NUMBERED, /* text, extra, "}" */
};

enum qualifier {
	QUALIFIER_CONST = 1,
	QUALIFIER_VOLATILE = 2,
	QUALIFIER_RESTRICT = 4,
	QUALIFIER_LVALUE = 8,
	QUALIFIER_RVALUE = 16,
	QUALIFIER_NOEXCEPT = 32,
};

struct node {
	u8 kind;
	u32 extra;
	u32 length; /* of text */
	const char *text;
	struct node *a, *b;
};

struct printer {
	struct oa_writer *to;
	u32 depth;
	u32 expanding; /* inside of a pack expansion */
	u32 pack_index; /* element of packs that is written now */
	u32 in_lambda; /* inside of a lambda's signature */
	const struct node *arguments; /* of the outermost function */
};

const struct node *oa_itanium_resolve(const struct printer *p, const struct node *n, u32 *through);
int oa_itanium_print_enter(struct printer *p);
s64 oa_itanium_pack_size(struct printer *p, const struct node *n);
int oa_itanium_is_bracketed(const struct printer *p, const struct node *n);
int oa_itanium_surrounds(const struct printer *p, const struct node *n);
const struct node *oa_itanium_collapse(struct printer *p, const struct node *n, u8 *kind);
void oa_itanium_print(struct oa_writer *to, const struct node *root, const struct node *arguments);
#endif
#endif
