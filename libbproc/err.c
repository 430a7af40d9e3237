/*
 * Errors with context (err.h). Used by the library and the daemons.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "err.h"

int bproc_err_set(struct bproc_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, ap);
		va_end(ap);
	}
	return -code;
}

void bproc_err_prefix(struct bproc_err *err, const char *fmt, ...)
{
	char old[BPROC_ERR_TEXT];
	va_list ap;
	int n;

	if (!err)
		return;
	memcpy(old, err->text, sizeof(old));
	va_start(ap, fmt);
	n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n + 2 >= sizeof(err->text))
		return;
	memcpy(err->text + n, ": ", 2);
	memcpy(err->text + n + 2, old, sizeof(old) - (size_t)n - 2);
	err->text[sizeof(err->text) - 1] = '\0';
}
