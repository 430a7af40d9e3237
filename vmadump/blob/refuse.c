/*
 * A process that has something that cannot be carried stays where it is, untouched,
 * and its caller is told what it was (ENOTSUP). Runs in the blob. The texts are arrays,
 * not pointers: the blob is never relocated.
 */
#include <stdarg.h>

#include "lib.h"
#include "refuse.h"
#include "sys.h"

#define REFUSAL_TEXT(name, text) [name] = text,
static const char texts[REFUSAL_COUNT][96] = {REFUSALS(REFUSAL_TEXT)};

long refuse(struct blob *b, enum refusal why, ...)
{
	va_list ap;

	b->err.code = ENOTSUP;
	va_start(ap, why);
	str_vformat(b->err.text, sizeof b->err.text, texts[why], ap);
	va_end(ap);
	return -ENOTSUP;
}
