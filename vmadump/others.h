/*
 * What of processes that go is somebody else's as well, who stays. Library code, not installed.
 */
#pragma once

#include <dirent.h>

#include "vmadump/freeze.h"

/* One that goes, and which of its descriptors are ours (-1). */
struct goer {
	pid_t pid;
	int hide[2];
};

#define OTHERS_MEMORY 1u /* shared memory without a name too */
#define OTHERS_TREE 2u	 /* who descends from the first goes along, listed or not */

/*
 * found: for each descriptor or mapping, its text and whose it is. before, or NULL: they have
 * something that others may have as well, and nobody has been looked at; if it returns less than 0
 * nobody is. All get arg.
 */
struct others_told {
	void (*found)(uint32_t goer, const char *text, void *arg);
	int (*before)(void *arg);
	void *arg;
};

/*
 * Returns how many were found, what before() has returned, or -ENOMEM. It costs a look at every
 * process of the machine if they have anything of the kind: 0.1 ms each.
 */
int others_look(const struct goer *goer, uint32_t n, unsigned flags,
		const struct others_told *told);

/*
 * alone.c: of one that goes alone: 0, or refused by the first. While it runs, so that most is
 * refused before it is stopped; without FREEZE_COPIES memory as well. Then of one that stands
 * still: word is what it has to say itself, which takes less time, and is heard before anybody
 * else is looked at: 0, or -1 and it is refused for that; or NULL.
 */
int freeze_alone_ahead(struct freeze *f);
int freeze_alone(struct freeze *f, int (*word)(struct freeze *f, void *arg), void *arg);
/* What the blob says: could it be dumped, or with CHAN_DUMP_LEAVES leave with these flags? */
int freeze_word(struct freeze *f, uint32_t how, uint32_t flags);
/* The same of one that is told what it shares by this file (tree_order_file()), or -1. */
int freeze_word_of(struct freeze *f, uint32_t how, uint32_t flags, int order);

/* The blob is in it: it has just come, or is dumped, and may have open what is not its own. */
int others_blob(pid_t pid);

/* peer.c: "fd N is a socket", for which process pid was refused: whose is the other end? */
void others_name_peer(pid_t pid, char text[VMAD_TEXT_MAX]);

/* A mapping of memory that is no file of a name. */
struct shared_map {
	uint64_t start, end, off, dev, ino;
};

/* tree_share.c: a line of /proc/PID/maps; 0: it is something else. */
int shared_map_parse(const char *line, struct shared_map *ret);

/* realloc() to n + 1 of size bytes; -1: no memory. */
int others_grow(void *array, uint32_t n, uint32_t *room, size_t size);
/* The parent of a process; 0: there is no such process. */
int others_parent(int pid);
/* A directory of a process in /proc; NULL. */
DIR *proc_dir(int pid, const char *name);
/* The next number in a directory of /proc, and its name; -1 at its end. */
int proc_next(DIR *d, const char **ret_name);
