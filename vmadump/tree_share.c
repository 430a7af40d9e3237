/*
 * What the processes of a tree share with each other: open file descriptions (kcmp(2)),
 * pipes and sockets between them, memory. Library code; runs in whoever dumps, while all of
 * them are parked.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmadump/others.h"
#include "vmadump/tree.h"

/* -- descriptors */

static int is_ours(const struct tree_member *m, int fd)
{
	return fd == m->f.far || fd == m->f.other;
}

static int add_open(struct tree *t, uint32_t member, int fd)
{
	pid_t pid = t->member[member].pid;
	struct tree_open *o;
	char path[64], line[256];
	struct stat st;
	ssize_t n;
	FILE *f;

	if (tree_grow(t, &t->open, t->nopen, &t->open_room, sizeof *t->open) < 0)
		return -1;
	o = &t->open[t->nopen];
	snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
	if (stat(path, &st) < 0)
		return tree_fail(t, errno, "%s: %s", path, strerror(errno));
	*o = (struct tree_open){
		.member = member,
		.fd = fd,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.rdev = S_ISCHR(st.st_mode) ? st.st_rdev : 0,
		.mode = st.st_mode & S_IFMT,
		.description = t->nopen,
		.as = -1,
	};
	n = readlink(path, line, sizeof line - 1);
	line[n > 0 ? n : 0] = 0;
	if (strncmp(line, "anon_inode:", 11) == 0)
		snprintf(o->kind, sizeof o->kind, "%.*s", (int)sizeof o->kind - 1, line + 11);
	snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
	f = S_ISFIFO(st.st_mode) ? fopen(path, "re") : NULL;
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "flags:", 6) == 0)
			o->access = (uint32_t)strtoul(line + 6, NULL, 8) & O_ACCMODE;
	if (f)
		fclose(f);
	t->nopen++;
	t->fd_base = fd >= t->fd_base ? fd + 1 : t->fd_base;
	return 0;
}

static int list_open(struct tree *t, uint32_t member)
{
	char path[40];
	struct dirent *e;
	int r = 0;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/fd", t->member[member].pid);
	d = opendir(path);
	if (!d)
		return tree_fail(t, errno, "%s: %s", path, strerror(errno));
	while (r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.' && !is_ours(&t->member[member], atoi(e->d_name)))
			r = add_open(t, member, atoi(e->d_name));
	closedir(d);
	return r;
}

static int by_inode(const void *a, const void *b)
{
	const struct tree_open *x = a, *y = b;
	int r = strcmp(x->kind, y->kind);

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	if (r)
		return r;
	if (x->member != y->member)
		return x->member < y->member ? -1 : 1;
	return x->fd - y->fd;
}

static int same_inode(const struct tree_open *a, const struct tree_open *b)
{
	return a->dev == b->dev && a->ino == b->ino && strcmp(a->kind, b->kind) == 0;
}

/* One description after the other, in the kernel's order, each from its first process on. */
static int by_description(const void *a, const void *b, void *arg)
{
	const struct tree *t = arg;
	const struct tree_open *x = a, *y = b;
	long r = syscall(SYS_kcmp, t->member[x->member].pid, t->member[y->member].pid, KCMP_FILE,
			 x->fd, y->fd);

	if (r == 1 || r == 2)
		return r == 1 ? -1 : 1;
	if (x->member != y->member)
		return x->member < y->member ? -1 : 1;
	return x->fd - y->fd;
}

static int same_description(const struct tree *t, const struct tree_open *a,
			    const struct tree_open *b)
{
	return syscall(SYS_kcmp, t->member[a->member].pid, t->member[b->member].pid, KCMP_FILE,
		       a->fd, b->fd) == 0;
}

/* Of those with one inode: who shares a description with the one before. */
static void find_descriptions(struct tree *t, uint32_t from, uint32_t to)
{
	qsort_r(t->open + from, to - from, sizeof *t->open, by_description, t);
	for (uint32_t i = from; i < to; i++)
		t->open[i].description =
			i > from && same_description(t, &t->open[i - 1], &t->open[i])
				? t->open[i - 1].description
				: i;
}

static const struct tree_memory *memory_of(const struct tree *t, uint64_t dev, uint64_t ino)
{
	for (uint32_t i = 0; i < t->nmemory; i++)
		if (t->memory[i].dev == dev && t->memory[i].ino == ino)
			return &t->memory[i];
	return NULL;
}

static int is_inside(const struct tree *t, const struct tree_open *o);

/* Of what moves: is this description, [from, to), forwarded by home for each that has it? */
static int is_stream(const struct tree *t, uint32_t from, uint32_t to)
{
	const struct tree_open *o = &t->open[from];

	if (!t->leaves || o->rdev == makedev(1, 3) || (t->away && o->mode != S_IFIFO))
		return 0;
	for (; o < t->open + to; o++)
		if (o->fd <= 2)
			return !is_inside(t, o);
	return 0;
}

/* Does this description, [from, to), go through the first process? others: so many have its inode.
 */
static int is_shared(const struct tree *t, uint32_t from, uint32_t to, int others)
{
	const struct tree_open *o = &t->open[from];

	if (is_stream(t, from, to))
		return 0;
	if (t->open[to - 1].member != o->member || (others && o->mode == S_IFIFO))
		return 1;
	/* Whom a socket is connected with is seen where both are. */
	if (o->mode == S_IFSOCK)
		return 1;
	return o->mode == S_IFREG && memory_of(t, o->dev, o->ino) != NULL;
}

/* Everything of one inode: gets the first's numbers, those it has and those it is lent. */
static void number(struct tree *t, uint32_t from, uint32_t to)
{
	int others = 0;
	uint32_t end;

	for (uint32_t i = from; i < to; i++)
		others |= t->open[i].member != t->open[from].member;
	for (; from < to; from = end) {
		int as;

		for (end = from + 1; end < to && t->open[end].description == from; end++)
			;
		if (!is_shared(t, from, end, others))
			continue;
		/* The first process's come first. */
		as = t->open[from].member == 0 ? t->open[from].fd : t->lent_hi++;
		if (t->open[from].member)
			t->lent_lo = t->lent_lo ? t->lent_lo : as;
		for (uint32_t i = from; i < end; i++)
			t->open[i].as = as;
	}
}

/* The terminal that the first has as one of 0 to 2, opened once more by another. */
static void number_terminals(struct tree *t)
{
	for (uint32_t k = 0; k < t->nopen; k++) {
		const struct tree_open *first = &t->open[k];
		uint32_t major = major(first->rdev);

		if (first->member || first->fd > 2 || !first->rdev ||
		    !(major == 4 || major == 5 || (major >= 136 && major <= 143)))
			continue;
		for (uint32_t i = 0; i < t->nopen; i++)
			if (t->open[i].member && t->open[i].rdev == first->rdev)
				t->open[i].as = first->fd;
	}
}

static int find_open(struct tree *t)
{
	uint32_t from, to;
	int mine = 0;

	for (uint32_t i = 0; i < t->n; i++)
		if (t->member[i].kind == TREE_PROCESS && list_open(t, i) < 0)
			return -1;
	if (t->nopen)
		qsort(t->open, t->nopen, sizeof *t->open, by_inode);
	for (uint32_t i = 0; i < t->nopen; i++)
		if (t->open[i].member == 0 && t->open[i].fd >= mine)
			mine = t->open[i].fd + 1;
	if (t->member[0].f.far >= mine)
		mine = t->member[0].f.far + 1;
	t->lent_lo = 0;
	t->lent_hi = mine > 3 ? mine : 3;
	for (from = 0; from < t->nopen; from = to) {
		for (to = from + 1; to < t->nopen && same_inode(&t->open[from], &t->open[to]); to++)
			;
		find_descriptions(t, from, to);
		number(t, from, to);
	}
	t->lent_hi--;
	if (!t->leaves)
		number_terminals(t);
	if (t->lent_lo && t->lent_hi >= t->fd_base)
		t->fd_base = t->lent_hi + 1;
	return 0;
}

/* Is the other end of this pipe in the tree as well? */
static int is_inside(const struct tree *t, const struct tree_open *o)
{
	if (o->mode != S_IFIFO)
		return 0;
	for (uint32_t i = 0; i < t->nopen; i++)
		if (same_inode(&t->open[i], o) && t->open[i].access != o->access)
			return 1;
	return 0;
}

/* -- memory */

/* Shared, and gone or never there. */
int shared_map_parse(const char *line, struct shared_map *m)
{
	unsigned major, minor;
	char perm[8] = "";
	int at = 0;

	if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu %n", &m->start, &m->end, perm, &m->off, &major,
		   &minor, &m->ino, &at) < 7 ||
	    perm[3] != 's' || !m->ino)
		return 0;
	m->dev = makedev(major, minor);
	line += at;
	if (strncmp(line, "/SYSV", 5) == 0 || strncmp(line, "/[aio]", 6) == 0 ||
	    strncmp(line, "/secretmem", 10) == 0 || strncmp(line, "/anon_hugepage", 14) == 0)
		return 0;
	return strncmp(line, "[anon_shmem", 11) == 0 || strstr(line, " (deleted)") != NULL;
}

static int each_map(struct tree *t, int (*take)(struct tree *, uint32_t, const struct shared_map *))
{
	char path[40], line[4600];
	struct shared_map m;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < t->n; i++) {
		FILE *f;

		if (t->member[i].kind != TREE_PROCESS)
			continue;
		snprintf(path, sizeof path, "/proc/%d/maps", t->member[i].pid);
		f = fopen(path, "re");
		if (!f)
			return tree_fail(t, errno, "%s: %s", path, strerror(errno));
		while (r == 0 && fgets(line, sizeof line, f))
			if (shared_map_parse(line, &m))
				r = take(t, i, &m);
		fclose(f);
	}
	return r;
}

static int count_map(struct tree *t, uint32_t member, const struct shared_map *m)
{
	struct tree_memory *o = (struct tree_memory *)memory_of(t, m->dev, m->ino);

	(void)member;
	if (!o) {
		if (tree_grow(t, &t->memory, t->nmemory, &t->memory_room, sizeof *t->memory) < 0)
			return -1;
		o = &t->memory[t->nmemory++];
		*o = (struct tree_memory){.dev = m->dev, .ino = m->ino, .as = -1};
	}
	o->mappings++;
	if (m->off + (m->end - m->start) > o->bytes)
		o->bytes = m->off + (m->end - m->start);
	return 0;
}

static void choose_objects(struct tree *t)
{
	for (uint32_t i = 0; i < t->nopen; i++) {
		struct tree_memory *o =
			(struct tree_memory *)memory_of(t, t->open[i].dev, t->open[i].ino);

		if (o && t->open[i].as >= 0)
			o->as = t->open[i].as;
	}
	/* What one process has mapped once is carried by it as ever. */
	for (uint32_t i = 0; i < t->nmemory; i++)
		if (t->memory[i].mappings > 1 || t->memory[i].as >= 0)
			t->memory[i].object = ++t->nobjects;
}

static int take_map(struct tree *t, uint32_t member, const struct shared_map *m)
{
	struct tree_memory *o = (struct tree_memory *)memory_of(t, m->dev, m->ino);
	struct tree_member *of = &t->member[member];
	uint64_t end = m->off + (m->end - m->start);
	struct tree_map *p;

	if (!o || !o->object)
		return 0;
	p = realloc(of->map, (of->nmaps + 1) * sizeof *p);
	if (!p)
		return tree_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	of->map = p;
	p += of->nmaps++;
	*p = (struct tree_map){.start = m->start, .object = o->object - 1};
	/* With a descriptor what is in it goes with that; else each page goes once, as a rule. */
	p->pages = o->as < 0 && (m->off < o->covered_from || end > o->covered_to);
	if (p->pages && end - m->off >= o->covered_to - o->covered_from) {
		o->covered_from = m->off;
		o->covered_to = end;
	}
	return 0;
}

int tree_find_shared(struct tree *t)
{
	if (each_map(t, count_map) < 0)
		return -1;
	if (t->alone && !t->nmemory)
		return 0;
	if (find_open(t) < 0)
		return -1;
	choose_objects(t);
	return each_map(t, take_map);
}

/* -- as the blob is told */

static void put_plan(const struct tree *t, FILE *f)
{
	uint8_t head[TREE_HEAD] = {0};

	put32(head, t->n);
	put32(head + 4, (uint32_t)t->fd_base);
	fwrite(head, sizeof head, 1, f);
	for (uint32_t i = 0; i < t->n; i++) {
		const struct tree_member *m = &t->member[i];
		uint8_t e[TREE_ENTRY] = {0};

		put32(e + TREE_PID, (uint32_t)m->pid);
		put32(e + TREE_PARENT, m->parent);
		put32(e + TREE_PGID, (uint32_t)m->pgid);
		put32(e + TREE_SID, (uint32_t)m->sid);
		put32(e + TREE_KIND, m->kind);
		put32(e + TREE_STATUS, m->status);
		put32(e + TREE_EXIT_SIGNAL, m->exit_signal);
		memcpy(e + TREE_NAME, m->name, sizeof m->name - 1);
		fwrite(e, sizeof e, 1, f);
	}
}

static void put_memory(const struct tree *t, FILE *f)
{
	for (uint32_t i = 0; i < t->nmemory; i++) {
		uint8_t e[MEMORY_LEN] = {0};

		if (!t->memory[i].object)
			continue;
		put32(e, t->memory[i].as < 0 ? MEMORY_NEW : MEMORY_FD);
		put32(e + 4, t->memory[i].as < 0 ? 0 : (uint32_t)t->memory[i].as);
		put64(e + 8, t->memory[i].as < 0 || t->memory[i].lent ? t->memory[i].bytes : 0);
		fwrite(e, sizeof e, 1, f);
	}
}

static int by_fd(const void *a, const void *b)
{
	return ((const struct tree_fd *)a)->fd - ((const struct tree_fd *)b)->fd;
}

/* What the blob is told of member's descriptors, by rising numbers; it is searched there. */
static int put_fds(struct tree *t, uint32_t member, FILE *f, uint32_t *ret_n)
{
	struct tree_fd *all = malloc((t->nopen + t->nmemory + 1ul) * sizeof *all);
	uint32_t n = 0;

	if (!all)
		return tree_fail(t, ENOMEM, "%s", strerror(ENOMEM));
	for (uint32_t i = 0; i < t->nopen; i++) {
		const struct tree_open *o = &t->open[i];
		struct tree_fd e = {o->fd, o->as, 0};
		int lent = o->as >= t->lent_lo && t->lent_lo;

		if (member == 0 && o->member && lent && o->description == i) {
			e.fd = o->as;
			e.flags = TREE_FD_EXTRA;
		} else if (o->member != member || (o->as < 0 && member)) {
			continue;
		} else if (member == 0 && o->fd <= 2 && is_inside(t, o)) {
			e.flags = TREE_FD_INSIDE;
		}
		all[n++] = e;
	}
	for (uint32_t i = 0; member == 0 && i < t->nmemory; i++)
		if (t->memory[i].lent)
			all[n++] = (struct tree_fd){t->memory[i].as, t->memory[i].as,
						    TREE_FD_EXTRA};
	qsort(all, n, sizeof *all, by_fd);
	fwrite(all, sizeof *all, n, f);
	free(all);
	*ret_n = n;
	return 0;
}

int tree_order_file(struct tree *t, uint32_t i)
{
	struct tree_order head = {
		.index = i,
		.first_pid = (uint32_t)t->member[0].pid,
		.nmaps = t->member[i].nmaps,
		.alone = (uint32_t)t->alone,
		.plan_len = i || t->leaves || t->alone ? 0 : TREE_HEAD + t->n * TREE_ENTRY,
		.memory_len = i && !t->leaves ? 0 : t->nobjects * MEMORY_LEN,
	};
	int fd = memfd_create("vmadump", MFD_CLOEXEC), keep = fd < 0 ? -1 : dup(fd);
	FILE *f = keep < 0 ? NULL : fdopen(keep, "w");

	if (!f) {
		if (fd >= 0)
			close(fd);
		if (keep >= 0)
			close(keep);
		return tree_fail(t, errno, "memory: %s", strerror(errno));
	}
	fwrite(&head, sizeof head, 1, f);
	if (t->member[i].nmaps)
		fwrite(t->member[i].map, sizeof *t->member[i].map, t->member[i].nmaps, f);
	if (!t->alone && put_fds(t, i, f, &head.nfds) < 0) {
		fclose(f);
		close(fd);
		return -1;
	}
	if (head.plan_len)
		put_plan(t, f);
	if (head.memory_len)
		put_memory(t, f);
	fclose(f);
	if (pwrite(fd, &head, sizeof head, 0) == sizeof head)
		return fd;
	close(fd);
	return tree_fail(t, EIO, "memory");
}
