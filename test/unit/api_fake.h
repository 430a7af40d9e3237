/*
 * A synthetic bpslave: a child process that answers the local protocol on
 * node.sock in a private BPROC_RUN_DIR as a test tells it to. What real daemons
 * cover as well is tested in test/lab.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* What it does when a question of one type comes. */
enum fake_how {
	FAKE_ANSWER = 0, /* as a bpslave of a small cluster would */
	FAKE_REFUSE,	 /* err, text */
	FAKE_DIE,	 /* exits without an answer */
	FAKE_DIE_ONCE,	 /* ends the connection; the next question is answered; a channel stays
			  * open until somebody has been asked for three times */
	FAKE_CUT,	 /* an answer whose payload is cut short */
	FAKE_WRONG_LEN,	 /* an answer whose header lies about its length */
	FAKE_WRONG_VERSION,
	FAKE_STALE_FIRST,   /* an answer to another question first */
	FAKE_ABORT_CHANNEL, /* LOCAL_MOVE: err, text by CHAN_ABORT after CHAN_HERE */
	FAKE_ABORT_BOTH,    /* the same, and by an answer as well */
	FAKE_GO,	    /* LOCAL_MOVE: CHAN_GO after CHAN_HERE, then reads on */
};

struct fake {
	enum fake_how how;
	uint16_t type; /* of the questions this is about; 0: all */
	int err;
	const char *text;
	int nnodes; /* in the table; 0: four */
	int nprocs; /* in the process list */
	int self;
};

/*
 * A private run directory with a fake in it; sets BPROC_RUN_DIR. The fake writes
 * one byte of type for each question, and the type of each channel message with
 * bit 7 set, to the pipe that fake_seen() reads.
 */
void fake_start(const struct fake *f);
/* The same, but no child of the test; ends with it. Nothing is seen of it. */
void fake_start_apart(const struct fake *f);
/* Another one in the place of the one that ended or was stopped. */
void fake_restart(const struct fake *f);
void fake_stop(void);
/* What it has seen since, at most len; waits up to 5 s for so many. */
int fake_seen(unsigned char *buf, int len);
void fake_run_dir(void);
/* Waits for a child; its exit status, or 128 and the signal that killed it. */
int fake_wait(pid_t pid);
