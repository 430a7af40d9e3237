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
