/* Copyright The otelagent authors */
/* SPDX-License-Identifier: Apache-2.0 */
#include "demangle.h"

#include <string.h>

void oa_write(struct oa_writer *to, const char *text, u64 size)
{
	if (size > to->room - to->used) {
		size = to->room - to->used;
		to->full = 1;
	}
	memcpy(to->out + to->used, text, size);
	to->used += size;
}

void oa_write_text(struct oa_writer *to, const char *text)
{
	oa_write(to, text, strlen(text));
}

void oa_write_number(struct oa_writer *to, u64 number)
{
	char digits[20];
	u32 count = 0;

	do {
		digits[sizeof(digits) - ++count] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	oa_write(to, digits + sizeof(digits) - count, count);
}

typedef int (*demangler)(struct oa_writer *, const char *, u64);

s64 oa_demangle(const char *name, u64 size, char *out, u64 room)
{
	static const demangler all[] = {oa_demangle_rust_legacy, oa_demangle_rust_v0,
					oa_demangle_itanium};

	if (size < 3 || size > OA_DEMANGLE_MAX_INPUT || name[0] != '_')
		return -1;
	for (u32 i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct oa_writer to = {.out = out, .room = room};

		if (!all[i](&to, name, size))
			continue;
		return (s64)(to.full ? room : to.used);
	}
	return -1;
}

/* $name$ in a legacy Rust symbol. */
static int write_escape(struct oa_writer *to, const char *text, u64 size)
{
	static const char *const escapes[][2] = {{"SP", "@"}, {"BP", "*"}, {"RF", "&"}, {"LT", "<"},
						 {"GT", ">"}, {"LP", "("}, {"RP", ")"}, {"C", ","}};
	u32 code = 0;

	for (u32 i = 0; i < sizeof(escapes) / sizeof(*escapes); i++) {
		if (strlen(escapes[i][0]) == size && !memcmp(escapes[i][0], text, size)) {
			oa_write_text(to, escapes[i][1]);
			return 1;
		}
	}
	if (size < 2 || size > 5 || text[0] != 'u')
		return 0;
	for (u64 i = 1; i < size; i++) {
		const char *digit = memchr("0123456789abcdef", text[i], 16);

		if (!digit)
			return 0;
		code = code << 4 | (u32)(text[i] >= 'a' ? text[i] - 'a' + 10 : text[i] - '0');
	}
	if (code < 0x20 || code > 0x7e)
		return 0;
	oa_write(to, (char[]){(char)code}, 1);
	return 1;
}

static void write_legacy_part(struct oa_writer *to, const char *text, u64 size)
{
	if (size > 1 && text[0] == '_' && text[1] == '$') {
		text++; /* only there to make it an identifier */
		size--;
	}
	while (size) {
		const char *close;

		if (size > 1 && text[0] == '.' && text[1] == '.') {
			oa_write_text(to, "::");
			text += 2;
			size -= 2;
			continue;
		}
		close = *text == '$' ? memchr(text + 1, '$', size - 1) : NULL;
		if (close && write_escape(to, text + 1, (u64)(close - text - 1))) {
			size -= (u64)(close + 1 - text);
			text = close + 1;
			continue;
		}
		oa_write(to, text++, 1);
		size--;
	}
}

static int is_legacy_hash(const char *text, u64 size)
{
	if (size != 17 || text[0] != 'h')
		return 0;
	for (u32 i = 1; i < 17; i++)
		if (!memchr("0123456789abcdef", text[i], 16))
			return 0;
	return 1;
}

/* _ZN, parts with their lengths, the last one a hash, E. */
int oa_demangle_rust_legacy(struct oa_writer *to, const char *name, u64 size)
{
	const char *at = name + 3, *end = name + size, *last = NULL;
	u64 last_size = 0, parts = 0;

	if (size < 24 || memcmp(name, "_ZN", 3))
		return 0;
	for (; at < end && *at != 'E'; parts++) {
		u64 length = 0;

		if (*at < '1' || *at > '9')
			return 0;
		while (at < end && *at >= '0' && *at <= '9' && length < size)
			length = length * 10 + (u64)(*at++ - '0');
		if (length > (u64)(end - at))
			return 0;
		if (last) {
			if (parts > 1)
				oa_write_text(to, "::");
			write_legacy_part(to, last, last_size);
		}
		last = at;
		last_size = length;
		at += length;
	}
	if (at == end || parts < 2 || !is_legacy_hash(last, last_size))
		return 0;
	return at + 1 == end || at[1] == '.'; /* .llvm.1234 and the like */
}
