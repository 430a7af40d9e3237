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

/*
 * memory: shared memory without a name too. A program that moves itself has it copied, as a child
 * of rfork has. found: for each descriptor or mapping, its text and whose it is. Returns how many;
 * -1: no memory. It costs a look at every process of the machine if they have anything of the kind.
 */
int others_look(const struct goer *goer, uint32_t n, int memory,
		void (*found)(uint32_t goer, const char *text, void *arg), void *arg);
/* Of one that stands still and goes alone: 0, or refused by the first. */
int freeze_alone(struct freeze *f, int memory);

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
/* A directory of a process in /proc; NULL. */
DIR *proc_dir(int pid, const char *name);
/* The next number in a directory of /proc, and its name; -1 at its end. */
int proc_next(DIR *d, const char **ret_name);
