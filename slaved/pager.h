/*
 * The pager of a process whose memory follows it to this machine (doc/image.md, section 12): a
 * process of bpinit's, with the userfaultfd of the memory and the connection to its source.
 *
 *	pager.c		start, the loop, questions and credit
 *	pager_space.c	what is still missing, in each address space that misses it
 *	pager_frame.c	what comes from the source, taken apart
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmadump/blob/image.h"
#include "vmadump/blob/lazy.h"

#define PAGER_NAME "bproc-pager"
/*
 * What it is told on its control socket, with the userfaultfd: that it may begin. What it says
 * there, once: 0: all is there, or nobody misses it; or the errno for which it will never be there.
 * bpinit lets go of the userfaultfd and says the same.
 */
typedef int32_t pager_word;

/* -- pager_frame.c */

struct pager_in {
	bool begun; /* the ranges have come */
	struct lazy_frame f;
	uint64_t left; /* bytes of pages of f that are to come */
};
struct pager_ops {
	void (*ranges)(void *arg, const struct lazy_range *r, uint32_t n);
	/* Whole pages, to at; 0 or -errno. */
	int (*pages)(void *arg, uint64_t at, const unsigned char *p, uint64_t n);
	/* The question for at is answered; none: there are no pages in [at, at + n). */
	void (*answered)(void *arg, uint64_t at);
	int (*none)(void *arg, uint64_t at, uint64_t n);
	void (*unasked)(void *arg, uint64_t n); /* so many bytes came by credit */
	void (*end)(void *arg);
};
/* Most that is left over: a list of ranges that is not whole. */
#define PAGER_REST (LAZY_FRAME + LAZY_RANGES_MAX * sizeof(struct lazy_range))
/* How many bytes of p were taken; the rest is to be given again, with more behind it; -errno. */
long pager_take(struct pager_in *in, const unsigned char *p, size_t n, const struct pager_ops *ops,
		void *arg);

/* -- pager_space.c */

struct piece {
	uint64_t start, end, src; /* what is missing here; where it was at the source */
};
struct space {
	int uffd;	 /* -1: it is gone */
	struct piece *p; /* in order of start */
	uint32_t n, room;
};
struct want {
	uint32_t space;
	uint64_t at;
};
struct spaces {
	struct space *s;
	uint32_t n, room;
	struct want *want; /* threads that wait, and for which page */
	uint32_t nwant, want_room;
	bool faulted; /* since it was last looked at */
};

int spaces_begin(struct spaces *all, int uffd, const struct lazy_range *r, uint32_t n);
/* Reads what there is of faults and events. 0 or -errno: no memory, or descriptors. */
int space_events(struct spaces *all, uint32_t i);
/* To wherever it is missing. 0 or -errno. */
int spaces_fill(struct spaces *all, uint64_t src, const unsigned char *p, uint64_t n);
/* It is zeros wherever it is missing. */
int spaces_none(struct spaces *all, uint64_t src, uint64_t n);
/* Where the page that w waits for was; 0: it is not missing any more, and w is served. */
uint64_t spaces_src(struct spaces *all, const struct want *w);
/* What is missing never comes: whoever touches it gets SIGBUS. */
void spaces_poison(struct spaces *all);
bool spaces_any(const struct spaces *all); /* somebody is left */
void spaces_end(struct spaces *all);

/* pager.c: in a child of bpinit. in and back may be one. */
_Noreturn void pager_main(int in, int back, int ctl);
