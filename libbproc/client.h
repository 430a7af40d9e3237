/*
 * The library's end of the local protocol (local.h): questions to this machine's
 * bpslave over a small pool of close-on-exec connections. A connection belongs to
 * one call at a time, so no lock is held while a call waits.
 *
 * A pooled connection does not outlive fork (the child's copy is closed, but for one
 * that may still ask where no answer comes), nor a dump (client_close_all), nor a move
 * (client_forget: the descriptors stayed behind). A descriptor that the program closed behind our
 * back is noticed by its inode and never written to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "libbproc/err.h"
#include "libbproc/local.h"

#define CLIENT_TIMEOUT_S 60 /* of a query, which may have to wait for a master; a move has none */

struct client {
	int fd; /* owned by the pool, or by this call if slot is -1 */
	int slot;
	uint32_t id; /* of the question that is under way */
	int cached;  /* the connection is of an earlier call: it may have gone stale */
};

/* An answer's payload: in buf as long as it fits, else on the heap. */
struct client_answer {
	size_t len;
	char *data; /* points behind the header */
	char *heap; /* owned; NULL if it fits in buf */
	char buf[2048] __attribute__((aligned(8)));
};
void client_answer_free(struct client_answer *ans);

/*
 * Sends a question, with a descriptor unless fd is -1. 0, or -errno with err
 * filled and nothing to end. A question that was sent once is never sent again.
 */
int client_begin(struct client *c, enum local_type type, const void *ask, size_t len, int fd,
		 struct bproc_err *err);
/*
 * More about what was begun, under its id. A loss is not told here: it is when the
 * answer is waited for.
 */
void client_add(struct client *c, enum local_type type, const void *more, size_t len);
/*
 * The same for what has no answer, as when an asker leaves: on the connection of the
 * process that this one was forked from, if it has none of its own yet.
 */
int client_tell(struct client *c, enum local_type type, const void *ask, size_t len, int fd,
		struct bproc_err *err);
/*
 * Waits for the answer of what was begun; ans may be NULL. 0, or the negative of
 * the daemon's error with its text in err. -ECONNRESET: it ended without one.
 */
int client_finish(struct client *c, struct client_answer *ans, int timed, struct bproc_err *err);
/* A connection of nobody's pool; its fd, or -errno. A bpslave that was killed is waited for. */
int client_connect(struct bproc_err *err);

/* Which bpslave a move is asked of, and how often it has been since client_mark(). */
struct client_mark {
	struct timespec since;
	int times, busy;
};
void client_mark(struct client_mark *m);
/*
 * What was asked for has ended with e. True: not for its own sake, it was undone since bpslave was
 * killed meanwhile, and there is another one: it is to be asked for again.
 */
bool client_again(int e, struct client_mark *m);
/* The connection is not needed: no answer will come, or nobody wants it. */
void client_drop(struct client *c);

/* A query: both of them, repeated if bpslave was restarted meanwhile. */
int client_ask(enum local_type type, const void *ask, size_t len, struct client_answer *ans,
	       struct bproc_err *err);

void client_close_all(void);
void client_forget(void);

/* The calling thread's last error; api_ret sets it and errno and returns -1. */
struct bproc_err *api_err(void);
int api_ret(int negative_errno);
