/*
 * What a place really has: its own /proc, read there by `bplab exec`. Of a node that is
 * the /proc of the pid namespace its bpinit is the first of, so numbers are the
 * cluster's; of the front end its own. A ghost is known by its tracer, as the kernel
 * says it; no daemon is asked.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>

#include "chaos.h"

struct status {
	struct seen s;
	int rss_kib;
};

/* /proc/PID/status of a process below dir. */
static int read_status(const char *dir, int pid, struct status *ret)
{
	char path[128], line[256];
	FILE *f;

	*ret = (struct status){.s = {.pid = pid}};
	snprintf(path, sizeof(path), "%s/%d/status", dir, pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "Name:\t%15s", ret->s.name);
		sscanf(line, "State:\t%c", &ret->s.state);
		sscanf(line, "PPid:\t%d", &ret->s.ppid);
		sscanf(line, "TracerPid:\t%d", &ret->s.tracer);
		sscanf(line, "VmRSS:\t%d", &ret->rss_kib);
	}
	fclose(f);
	return ret->s.state ? 0 : -ESRCH;
}

/* Group and session, from /proc/PID/stat. */
static void read_place(const char *dir, int pid, struct seen *s)
{
	char path[128], line[512] = "", *end;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%d/stat", dir, pid);
	f = fopen(path, "re");
	end = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (end)
		sscanf(end + 1, " %*c %*d %d %d", &s->pgid, &s->sid);
	if (f)
		fclose(f);
}

/* Calls visit() for each process below dir. */
static void each(const char *dir, void (*visit)(const char *dir, int pid, void *arg), void *arg)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			visit(dir, atoi(e->d_name), arg);
	if (d)
		closedir(d);
}

static int count_fds(int pid)
{
	char path[64];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

/* A daemon; bpinit's number is kept in *arg. */
static void show_daemon(const char *dir, int pid, void *arg)
{
	static const char *const names[] = {"bpmaster", "bpslave", "bpinit"};
	struct status st;
	int *init = arg;

	if (read_status(dir, pid, &st) < 0 || st.s.state == 'Z' || st.s.tracer)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(st.s.name, names[i]))
			continue;
		printf("D %s %d %d %d\n", st.s.name, pid, count_fds(pid), st.rss_kib);
		if (i == 2)
			*init = pid;
	}
}

static void show_process(const char *dir, int pid, void *arg)
{
	struct status st;

	(void)arg;
	/* Skeletons (doc/local.md) are no processes of the cluster. */
	if (pid == getpid() || read_status(dir, pid, &st) < 0 || !strcmp(st.s.name, "bproc-pool"))
		return;
	read_place(dir, pid, &st.s);
	printf("P %d %d %d %d %d %c %s\n", pid, st.s.ppid, st.s.tracer, st.s.pgid, st.s.sid,
	       st.s.state, st.s.name);
}

/*
 * --look, in that place. The keeper's root is the front end's own, so its /proc is the
 * right one there as well.
 */
int look_main(void)
{
	char dir[64];
	int init = 0;

	each("/proc", show_daemon, &init);
	if (!init) {
		printf("E no bpinit is here\n");
		return 0;
	}
	snprintf(dir, sizeof(dir), "/proc/%d/root/proc", init);
	each(dir, show_process, NULL);
	return 0;
}

struct target {
	const char *name;
	int sig, found;
};

static void hit(const char *dir, int pid, void *arg)
{
	struct target *t = arg;
	struct status st;

	if (read_status(dir, pid, &st) < 0 || strcmp(st.s.name, t->name))
		return;
	t->found = 1;
	kill(pid, t->sig);
}

struct inner {
	int pid, depth, found;
};

static int fields(const char *line)
{
	int n = 0;

	for (; (line = strchr(line, '\t')); line++)
		n++;
	return n;
}

/* The process of this place whose number in its own namespace is wanted. */
static void match_inner(const char *dir, int pid, void *arg)
{
	char path[64], line[256], *last;
	struct inner *in = arg;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%d/status", dir, pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "NSpid:", 6))
			continue;
		/* What is in the node's own namespace has one number more than we have. */
		last = strrchr(line, '\t');
		if (last && atoi(last) == in->pid && fields(line) > in->depth)
			in->found = pid;
	}
	if (f)
		fclose(f);
}

static int my_depth(void)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "NSpid:", 6))
			n = fields(line);
	if (f)
		fclose(f);
	return n;
}

/* --signal SIG WHO: a daemon by its name, or a process by the cluster's number */
int signal_main(int sig, const char *who)
{
	struct target t = {.name = who, .sig = sig};
	struct inner in = {.pid = atoi(who)};

	if (!isdigit((unsigned char)who[0])) {
		each("/proc", hit, &t);
		return !t.found;
	}
	in.depth = my_depth();
	each("/proc", match_inner, &in);
	return !in.found || kill(in.found, sig) < 0;
}

/* -- for the one who asks ------------------------------------------------------ */

static int add(void **array, int *n, const void *item, size_t size)
{
	void *more = realloc(*array, (size_t)(*n + 1) * size);

	if (!more)
		return -ENOMEM;
	memcpy((char *)more + (size_t)*n * size, item, size);
	*array = more;
	(*n)++;
	return 0;
}

static int take_line(struct place *p, const char *line)
{
	struct seen s = {0};
	struct daemon d = {0};

	if (sscanf(line, "P %d %d %d %d %d %c %15s", &s.pid, &s.ppid, &s.tracer, &s.pgid, &s.sid,
		   &s.state, s.name) >= 6)
		return add((void **)&p->proc, &p->nproc, &s, sizeof(s));
	if (sscanf(line, "D %15s %d %d %d", d.name, &d.pid, &d.fds, &d.rss_kib) == 4)
		return add((void **)&p->daemon, &p->ndaemon, &d, sizeof(d));
	return -EPROTO;
}

const char *place_name(int node)
{
	static char name[16];

	snprintf(name, sizeof(name), "%d", node);
	return node < 0 ? "master" : name;
}

int look_at(int node, struct place *ret)
{
	struct place p = {0};
	char command[640], line[256];
	int r = 0;
	FILE *f;

	snprintf(command, sizeof(command), "bplab exec %s '%.400s' --look 2>&1", place_name(node),
		 led->program);
	f = popen(command, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (take_line(&p, line) < 0)
			r = -EPROTO;
	if (pclose(f) != 0)
		r = -EPROTO;
	if (r < 0)
		place_free(&p);
	else
		*ret = p;
	return r;
}

void place_free(struct place *p)
{
	free(p->proc);
	free(p->daemon);
	*p = (struct place){0};
}
