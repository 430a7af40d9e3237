/*
 * The pager of a process whose memory follows it to this machine (doc/image.md, section 12): a
 * process with the userfaultfd of the memory and the connection to its source, and no rights. In
 * the clear a child of bpinit; in TLS the bpdata of the connection becomes it (bpdata_page.c).
 *
 *	pager.c		the loop, questions and credit
 *	pager_space.c	what is still missing, in each address space that misses it
 *	pager_frame.c	what comes from the source, taken apart
 *	pager_right.c	what it gives up
 *	pager_child.c	bpinit's child
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmadump/blob/image.h"
#include "vmadump/blob/lazy.h"

#define PAGER_NAME "bproc-pager"
/*
 * What it is told on its control socket, with the userfaultfd: that it may begin; bpdata also gets
 * the pipe that the image was read from, with what is behind the image. What it says
 * there, once: 0: all is there, or nobody misses it; or the errno for which it will never be there.
 * bpinit lets go of the userfaultfd and says the same.
 */
typedef int32_t pager_word;

/* -- pager_frame.c */

/* Most that is left over: a list of ranges that is not whole. */
#define PAGER_REST (LAZY_FRAME + LAZY_RANGES_MAX * sizeof(struct lazy_range))
struct pager_in {
	bool begun; /* the ranges have come */
	struct lazy_frame f;
	uint64_t left; /* bytes of pages of f that are to come */
	size_t nrest;  /* bytes that no whole of anything could be made of yet */
	unsigned char rest[PAGER_REST];
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
/* However the sequence is cut: it keeps what is to be made whole by the next. 0 or -errno. */
int pager_take(struct pager_in *in, const unsigned char *p, size_t n, const struct pager_ops *ops,
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

/* -- pager.c */

/* What it speaks with the source by. */
struct pager_line {
	int fd;	      /* for poll, both ways */
	bool relayed; /* what is in front of an answer costs several times as much */
	/* What has come goes to pager_feed(). 0; 1: there may be more; -errno. */
	int (*read)(void *arg);
	/* Bytes that are taken, the first of p; -EAGAIN: none, and the same will come again. */
	long (*write)(void *arg, const unsigned char *p, size_t n);
	void *arg;
};

void pager_begin(int uffd, const struct pager_line *line);
int pager_feed(const unsigned char *p, size_t n);
/* 0: all is there, or nobody is left; -errno: it never will be. */
int pager_serve(void);
bool pager_all_came(void);
/* What pager_serve() said is told on ctl; whoever misses something still gets SIGBUS, or zeros. */
void pager_finish(int ctl, int e);

/* -- pager_right.c */

/* It is named so, for want of memory others go first, and only what a pager needs is left. */
void pager_drop_rights(void);

/* -- pager_child.c: in a child of bpinit, with the TCP connection */
_Noreturn void pager_main(int conn, int ctl);
