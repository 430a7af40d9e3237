/*
 * An error with its context: owned by the caller, never allocated, so that it
 * works after fork and inside a signal-blocked section. The function that fails
 * fills it once; callers may put a prefix before the text, nothing else.
 */
#pragma once

#define BPROC_ERR_TEXT 160

struct bproc_err {
	int code;			/* positive errno or BE_ value; 0: none */
	char text[BPROC_ERR_TEXT];	/* names the thing: "pid 42: fd 7 is ..." */
};

/* Fills err (which may be NULL) and returns -code. */
int bproc_err_set(struct bproc_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
