/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
/* What the printer must know of a C++ name's tree before it writes. */
#include "itanium.h"

#include <stddef.h>

/* The node that a parameter stands for, and in an expansion the pack's element.
 * `through` is set if there was a parameter: what lies behind it was written
 * elsewhere, and the expansion around is none of its business.
 */
const struct node *oa_itanium_resolve(const struct printer *p, const struct node *n, u32 *through)
{
	u32 expanding = p->expanding, ignored;

	through = through ? through : &ignored;
	*through = 0;
	for (u32 i = 0; n && i < OA_DEMANGLE_MAX_DEPTH; i++) {
		const struct node *target;

		if (n->kind != NODE_PARAMETER)
			return n;
		target = n->a;
		if (!target && !p->in_lambda) { /* of a lambda's operator(): known by now */
			const struct node *item = p->arguments;

			for (u32 at = 0; item && at < n->extra; at++)
				item = item->b;
			target = item ? item->a : NULL;
		}
		if (!target)
			return n;
		if (target->kind == NODE_PACK && expanding) {
			const struct node *item = target->a;

			for (u32 at = 0; item && at < p->pack_index; at++)
				item = item->b;
			if (!item)
				return NULL;
			target = item->a;
		}
		expanding = 0;
		*through = 1;
		n = target;
	}
	return NULL;
}

int oa_itanium_print_enter(struct printer *p)
{
	if (p->depth >= OA_DEMANGLE_MAX_DEPTH) {
		p->to->full = 1;
		return 0;
	}
	return oa_write_step(p->to);
}

/* How many elements the first pack inside of `n` has; -1 if there is none. */
s64 oa_itanium_pack_size(struct printer *p, const struct node *n)
{
	s64 size = -1;

	if (!n || !oa_itanium_print_enter(p))
		return -1;
	if (n->kind == NODE_PARAMETER) {
		if (!n->a || n->a->kind != NODE_PACK)
			return -1;
		size = 0;
		for (const struct node *item = n->a->a; item; item = item->b)
			size++;
		return size;
	}
	if (n->kind == NODE_EXPANSION)
		return -1;
	p->depth++;
	size = oa_itanium_pack_size(p, n->a);
	if (size < 0)
		size = oa_itanium_pack_size(p, n->b);
	p->depth--;
	return size;
}

int oa_itanium_is_bracketed(const struct printer *p, const struct node *n)
{
	n = oa_itanium_resolve(p, n, NULL);
	while (n && n->kind == NODE_CV)
		n = oa_itanium_resolve(p, n->a, NULL);
	return n && (n->kind == NODE_ARRAY || n->kind == NODE_FUNCTION);
}

/* Whether what is declared goes into parentheses inside of this type. */
int oa_itanium_surrounds(const struct printer *p, const struct node *n)
{
	for (u32 i = 0; i < OA_DEMANGLE_MAX_DEPTH; i++) {
		n = oa_itanium_resolve(p, n, NULL);
		if (!n || n->kind < NODE_POINTER || n->kind > NODE_CV)
			return 0;
		if (oa_itanium_is_bracketed(p, n->a))
			return 1;
		n = n->a;
	}
	return 0;
}

/* What a reference refers to when references to references collapse. */
const struct node *oa_itanium_collapse(struct printer *p, const struct node *n, u8 *kind)
{
	u32 through;

	*kind = n->kind;
	for (u32 i = 0; i < OA_DEMANGLE_MAX_DEPTH; i++) {
		const struct node *target = oa_itanium_resolve(p, n->a, &through);

		if (!target || (target->kind != NODE_LVALUE && target->kind != NODE_RVALUE))
			return n->a;
		if (target->kind == NODE_LVALUE)
			*kind = NODE_LVALUE;
		if (through)
			p->expanding = 0; /* the caller restores it */
		n = target;
	}
	return NULL;
}
