/*
 * What the kernel tells of this process in /proc/self: text read line by line.
 */
#pragma once

#include "blob.h"
#include "image.h"

#define TEXT_BUF (16u << 10)

/* A text file of /proc, cut into lines of at most TEXT_BUF bytes. buf is the arena's. */
struct text {
	int fd;
	uint32_t pos, len;
	uint32_t most; /* bytes to be read at once; 0: as many as there is room for */
	int eof;
	char *buf;
};
/* Opens path; -errno with b->err filled. text_close() may be called in any case. */
long text_open(struct blob *b, struct text *t, const char *path);
/* The next line without its newline, valid until the next call; NULL at the end. */
char *text_line(struct text *t);
void text_close(struct text *t);

/* One mapping, as the first line of its entry in maps or smaps has it. */
struct map_line {
	uint64_t start, end, off, ino;
	uint32_t dev_major, dev_minor;
	uint32_t prot;	 /* PROT_* */
	uint32_t shared; /* 1: 's' */
	char *name;	 /* within the line: path, [name], or "" */
};
/* Takes line apart; 0 if it is not such a line. */
int map_line_parse(char *line, struct map_line *ret);

/* SPECIAL_* of "[vdso]" and friends, else 0. */
uint32_t special_kind(const char *name);

/* Reads a whole small file of /proc; length, or -errno. Ends buf with NUL. */
long proc_read(const char *path, char *buf, uint64_t size);

/* dump_vma.c: the GNU build-id in the first page of an ELF file; its length or 0. */
uint32_t elf_build_id(const uint8_t *page, uint32_t n, uint8_t id[FILE_ID_MAX]);
/* The oom_score_adj of this process. 0: it cannot be read. */
int oom_score(int32_t *ret);
