/*
 * A process that has something that cannot be carried stays where it is, untouched,
 * and its caller is told what it was (ENOTSUP). Runs in the blob. The texts are one behind the
 * other, without pointers: the blob is never relocated.
 */
#include <stdarg.h>

#include "lib.h"
#include "refuse.h"
#include "sys.h"

#define REFUSAL_TEXT(name, text) text "\0"
static const char texts[] = REFUSALS(REFUSAL_TEXT);

long refuse(struct blob *b, enum refusal why, ...)
{
	const char *text = texts;
	va_list ap;

	for (unsigned i = 0; i < why; i++)
		text += str_len(text) + 1;
	b->err.code = ENOTSUP;
	va_start(ap, why);
	str_vformat(b->err.text, sizeof b->err.text, text, ap);
	va_end(ap);
	return -ENOTSUP;
}
