/*
 * What processes that go have in common with one that stays: a pipe whose ends are all in them,
 * a socket, an event or timer descriptor, inotify, a file without a name, memory. A copy of it
 * would be cut off from the other's, and nobody would hear of it. Library code; runs in whoever
 * dumps or moves them, while they stand still, and sees what that one may see.
 *
 * What the kernel says of a descriptor by its link in /proc is compared, and asks no file system.
 * Not asked about: regular files with a name, which are opened again by it; epoll sets and signal
 * descriptors, which the one who reads them has by himself.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/others.h"

#define TREE_DEEPEST 64	   /* generations: more do not go together */
#define LINK_MAX_LEN 256   /* of what is asked about, but for a deleted file, no link is longer */
#define LINK_LONGEST 4112u /* PATH_MAX, and " (deleted)" */

enum { BY_NAME, BY_FILE, BY_DESCRIPTION };

/* One descriptor of one that goes. */
struct thing {
	uint32_t goer;
	int fd;
	const char *what;
	char name[LINK_MAX_LEN];
	uint8_t by, ends; /* of a pipe: 1 read, 2 write */
	uint8_t told;
};

/* And one mapping; exe: its program. */
struct place {
	uint32_t goer;
	struct shared_map map;
	char exe[LINK_MAX_LEN];
	uint8_t told;
};

struct search {
	const struct goer *goer;
	uint32_t n;
	struct thing *thing;
	struct place *place;
	uint32_t nthings, things_room, nplaces, places_room;
	int any_program; /* memory that has a descriptor may be anybody's */
	int found;
	unsigned flags;
	const struct others_told *told;
};

int others_grow(void *array, uint32_t n, uint32_t *room, size_t size)
{
	void **p = array, *more;

	if (n < *room)
		return 0;
	*room = *room ? 2 * *room : 16;
	more = realloc(*p, *room * size);
	if (!more)
		return -1;
	*p = more;
	return 0;
}

DIR *proc_dir(int pid, const char *name)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	return opendir(path);
}

int proc_next(DIR *d, const char **ret_name)
{
	struct dirent *e;

	while ((e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0])) {
			*ret_name = e->d_name;
			return atoi(e->d_name);
		}
	return -1;
}

int others_parent(int pid)
{
	char path[40], text[512], *p;
	int parent = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	f = fopen(path, "re");
	p = f && fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
	if (p)
		sscanf(p, ") %*c %d", &parent);
	if (f)
		fclose(f);
	return parent;
}

static int ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && strcmp(s + n - k, end) == 0;
}

static const char *kind_of(const char *link, uint8_t *ret_by)
{
	*ret_by = BY_NAME;
	if (strncmp(link, "pipe:", 5) == 0)
		return "a pipe";
	if (strncmp(link, "socket:", 7) == 0)
		return "a socket";
	*ret_by = BY_FILE;
	if (strncmp(link, "/memfd:", 7) == 0)
		return "a memfd";
	if (link[0] == '/' && ends_with(link, " (deleted)"))
		return "a deleted file";
	*ret_by = BY_DESCRIPTION;
	return strcmp(link, "anon_inode:[eventfd]") == 0   ? "an event descriptor"
	       : strcmp(link, "anon_inode:[timerfd]") == 0 ? "a timer descriptor"
	       : strcmp(link, "anon_inode:inotify") == 0   ? "inotify"
							   : NULL;
}

/* Of a long path its end, by which it is found again. */
static const char *name_of(const char *link, size_t len)
{
	return len < LINK_MAX_LEN ? link : link + len - (LINK_MAX_LEN - 1);
}

/* -- what they have */

static int add_thing(struct search *s, uint32_t goer, DIR *d, int fd, const char *name)
{
	const struct goer *g = &s->goer[goer];
	char link[LINK_LONGEST];
	struct thing *t;
	const char *what;
	struct stat st;
	ssize_t n;
	uint8_t by;

	if (fd == g->hide[0] || fd == g->hide[1])
		return 0;
	n = readlinkat(dirfd(d), name, link, sizeof link - 1);
	if (n < 0)
		return 0;
	link[n] = 0;
	what = kind_of(link, &by);
	if (!what)
		return 0;
	if (others_grow(&s->thing, s->nthings, &s->things_room, sizeof *s->thing) < 0)
		return -1;
	t = &s->thing[s->nthings++];
	*t = (struct thing){.goer = goer, .fd = fd, .what = what, .by = by};
	strcpy(t->name, name_of(link, (size_t)n));
	/* The link's mode says how it is open. */
	if (fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		t->ends = (st.st_mode & S_IRUSR ? 1u : 0u) | (st.st_mode & S_IWUSR ? 2u : 0u);
	return 0;
}

static int add_things(struct search *s, uint32_t goer)
{
	DIR *d = proc_dir(s->goer[goer].pid, "fd");
	const char *name;
	int fd, r = 0;

	while (d && r == 0 && (fd = proc_next(d, &name)) >= 0)
		r = add_thing(s, goer, d, fd, name);
	if (d)
		closedir(d);
	return r;
}

static void exe_of(int pid, char exe[LINK_MAX_LEN])
{
	char path[40];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	n = readlink(path, exe, LINK_MAX_LEN - 1);
	exe[n > 0 ? n : 0] = 0;
}

static int add_places(struct search *s, uint32_t goer)
{
	struct shared_map m;
	char path[40], *line = NULL;
	size_t room = 0;
	FILE *f;
	int r = 0;

	snprintf(path, sizeof path, "/proc/%d/maps", s->goer[goer].pid);
	f = fopen(path, "re");
	while (f && r == 0 && getline(&line, &room, f) > 0) {
		if (!shared_map_parse(line, &m))
			continue;
		r = others_grow(&s->place, s->nplaces, &s->places_room, sizeof *s->place);
		if (r == 0) {
			s->place[s->nplaces] = (struct place){.goer = goer, .map = m};
			exe_of(s->goer[goer].pid, s->place[s->nplaces++].exe);
		}
		if (!strstr(line, "/dev/zero") && !strstr(line, "[anon_shmem"))
			s->any_program = 1;
	}
	if (f)
		fclose(f);
	free(line);
	return r;
}

/*
 * Not all of it is asked about: of a pipe with an end that none of them has the blob judges, and
 * sockets that are stdin, stdout or stderr are everybody's, and forwarded.
 */
static int is_asked(const struct search *s, const struct thing *t)
{
	int ends = 0, stdio = 0;

	if (t->by != BY_NAME)
		return 1;
	for (uint32_t i = 0; i < s->nthings; i++)
		if (strcmp(s->thing[i].name, t->name) == 0) {
			ends |= s->thing[i].ends;
			stdio |= s->thing[i].fd <= 2;
		}
	return t->name[0] == 'p' ? ends == 3 : !stdio;
}

static void keep_asked(struct search *s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->nthings; i++)
		s->thing[i].told = !is_asked(s, &s->thing[i]);
	for (uint32_t i = 0; i < s->nthings; i++)
		if (!s->thing[i].told)
			s->thing[n++] = s->thing[i];
	s->nthings = n;
}

/* -- who else has it */

static void tell_of_thing(struct search *s, struct thing *t, int pid)
{
	struct vmad_err err = {0};
	struct trace one = {.err = &err};
	char name[16] = "";

	/* Once for all that have the same. */
	for (uint32_t i = 0; i < s->nthings; i++)
		if (strcmp(s->thing[i].name, t->name) == 0 && t->by != BY_DESCRIPTION)
			s->thing[i].told = 1;
	t->told = 1;
	freeze_name(pid, pid, name);
	trace_refuse(&one, REFUSE_FD_OTHERS, t->fd, t->what, pid, name);
	s->found++;
	s->told->found(t->goer, err.text, s->told->arg);
}

/* A socket that listens, or one of a pair: of others the blob judges, idle ones of libbproc's among
 * them, which a child has as well. */
static int goes_along(int pid, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), yes = 0;
	int s = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	struct sockaddr_un peer;
	socklen_t len = sizeof yes, n = sizeof peer;

	getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len);
	if (!yes)
		yes = getpeername(s, (struct sockaddr *)&peer, &n) == 0 &&
		      peer.sun_family == AF_UNIX && n == sizeof peer.sun_family;
	if (s >= 0)
		close(s);
	if (pidfd >= 0)
		close(pidfd);
	return yes;
}

/* Of a tree that runs meanwhile: one of it that was not there when it was listed. */
static int belongs(const struct search *s, int pid)
{
	int depth = 0;

	while (s->flags & OTHERS_TREE && pid > 1 && pid != s->goer[0].pid && depth++ < TREE_DEEPEST)
		pid = others_parent(pid);
	return s->flags & OTHERS_TREE && pid == s->goer[0].pid;
}

/* Of one that is looked at while it runs: it may have given it up, as a shell does with a pipe. */
static int has_still(const struct search *s, const struct thing *t)
{
	char path[40], link[LINK_LONGEST];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/fd/%d", s->goer[t->goer].pid, t->fd);
	n = readlink(path, link, sizeof link - 1);
	link[n > 0 ? n : 0] = 0;
	return n > 0 && strcmp(name_of(link, (size_t)n), t->name) == 0;
}

/* The same link has been seen: is it the same thing? */
static int is_same(const struct search *s, const struct thing *t, DIR *d, int pid, const char *name)
{
	const struct goer *g = &s->goer[t->goer];
	char path[40];
	struct stat its, own;

	if (t->by == BY_NAME)
		return t->name[0] == 'p' || goes_along(g->pid, t->fd);
	if (t->by == BY_DESCRIPTION)
		return syscall(SYS_kcmp, g->pid, pid, KCMP_FILE, t->fd, atoi(name)) == 0;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", g->pid, t->fd);
	return stat(path, &own) == 0 && fstatat(dirfd(d), name, &its, 0) == 0 &&
	       own.st_ino == its.st_ino && own.st_dev == its.st_dev;
}

static void look_at_fds(struct search *s, int pid)
{
	DIR *d = proc_dir(pid, "fd");
	char link[LINK_LONGEST];
	const char *name, *end;

	while (d && proc_next(d, &name) >= 0) {
		ssize_t n = readlinkat(dirfd(d), name, link, sizeof link - 1);

		if (n < 0)
			continue;
		link[n] = 0;
		end = name_of(link, (size_t)n);
		for (uint32_t i = 0; i < s->nthings; i++) {
			struct thing *t = &s->thing[i];

			if (!t->told && strcmp(t->name, end) == 0 && is_same(s, t, d, pid, name) &&
			    has_still(s, t) && !belongs(s, pid))
				tell_of_thing(s, t, pid);
		}
	}
	if (d)
		closedir(d);
}

static void tell_of_place(struct search *s, const struct place *p, int pid)
{
	struct vmad_err err = {0};
	struct trace one = {.err = &err};
	char name[16] = "";

	for (uint32_t i = 0; i < s->nplaces; i++)
		if (s->place[i].map.ino == p->map.ino && s->place[i].map.dev == p->map.dev)
			s->place[i].told = 1;
	freeze_name(pid, pid, name);
	trace_refuse(&one, REFUSE_MAP_OTHERS, p->map.start, pid, name);
	s->found++;
	s->told->found(p->goer, err.text, s->told->arg);
}

/* What has no descriptor is inherited by fork, and lost by exec. */
static int may_have_it(const struct search *s, int pid)
{
	char exe[LINK_MAX_LEN];

	if (s->any_program)
		return 1;
	exe_of(pid, exe);
	for (uint32_t i = 0; exe[0] && i < s->nplaces; i++)
		if (strcmp(s->place[i].exe, exe) == 0)
			return 1;
	return 0;
}

static void look_at_maps(struct search *s, int pid)
{
	struct shared_map m;
	char path[40], *line = NULL;
	size_t room = 0;
	FILE *f;

	if (!may_have_it(s, pid))
		return;
	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && getline(&line, &room, f) > 0) {
		if (!shared_map_parse(line, &m))
			continue;
		for (uint32_t i = 0; i < s->nplaces; i++) {
			const struct place *p = &s->place[i];

			if (!p->told && p->map.ino == m.ino && p->map.dev == m.dev &&
			    !belongs(s, pid))
				tell_of_place(s, p, pid);
		}
	}
	if (f)
		fclose(f);
	free(line);
}

static int stays(const struct search *s, int pid)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (s->goer[i].pid == pid)
			return 0;
	return pid != getpid(); /* we take them, and keep nothing of theirs */
}

static void look_at_all(struct search *s)
{
	DIR *d = opendir("/proc");
	const char *name;
	int pid;

	while (d && (pid = proc_next(d, &name)) >= 0) {
		if (!stays(s, pid))
			continue;
		if (s->nthings)
			look_at_fds(s, pid);
		if (s->nplaces)
			look_at_maps(s, pid);
	}
	if (d)
		closedir(d);
}

int others_look(const struct goer *goer, uint32_t n, unsigned flags, const struct others_told *told)
{
	struct search s = {.goer = goer, .n = n, .flags = flags, .told = told};
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < n; i++)
		if (add_things(&s, i) < 0 || (flags & OTHERS_MEMORY && add_places(&s, i) < 0))
			r = -ENOMEM;
	keep_asked(&s);
	if (r == 0 && (s.nthings || s.nplaces)) {
		r = told->before ? told->before(told->arg) : 0;
		if (r == 0)
			look_at_all(&s);
	}
	free(s.thing);
	free(s.place);
	return r < 0 ? r : s.found;
}
