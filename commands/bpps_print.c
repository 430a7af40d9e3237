/*
 * The columns of bpps. bpps(1).
 */
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpps.h"

#define COLUMNS_MAX 32
#define TEXT_MAX 1024 /* of one field */

typedef void (*text_fn)(const struct bproc_procstat_t *s, char *buf, size_t size);

static bool local_args; /* of the process that is being printed */

static void name_of(unsigned int uid, char *buf, size_t size)
{
	static unsigned int last = ~0u;
	static char name[64];

	if (uid != last || !name[0]) {
		struct passwd *pw = getpwuid(uid);

		snprintf(name, sizeof(name), "%u", uid);
		if (pw)
			snprintf(name, sizeof(name), "%s", pw->pw_name);
		last = uid;
	}
	snprintf(buf, size, "%s", name);
}

static void text_user(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	name_of(s->uid, buf, size);
}
static void text_ruser(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	name_of(s->ruid, buf, size);
}

static void text_state(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	snprintf(buf, size, "%c%s%s", s->state,
		 s->nice < 0   ? "<"
		 : s->nice > 0 ? "N"
			       : "",
		 s->threads > 1 ? "l" : "");
}

static void text_pcpu(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	double ms = s->age_ms > 0 ? (double)s->age_ms : 1;

	snprintf(buf, size, "%.1f", (double)s->cpu_us / 10.0 / ms);
}

static void text_time(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	unsigned long long t = s->cpu_us / 1000000;

	snprintf(buf, size, "%02llu:%02llu:%02llu", t / 3600, t / 60 % 60, t % 60);
}

static void text_cputime_ms(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	snprintf(buf, size, "%llu", s->cpu_us / 1000);
}

static void text_etime(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	unsigned long long t = s->age_ms / 1000, days = t / 86400;

	if (days > 0)
		snprintf(buf, size, "%llu-%02llu:%02llu:%02llu", days, t / 3600 % 24, t / 60 % 60,
			 t % 60);
	else if (t >= 3600)
		snprintf(buf, size, "%02llu:%02llu:%02llu", t / 3600, t / 60 % 60, t % 60);
	else
		snprintf(buf, size, "%02llu:%02llu", t / 60, t % 60);
}

static void text_etimes(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	snprintf(buf, size, "%llu", s->age_ms / 1000);
}
static void text_comm(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	snprintf(buf, size, "%s", s->comm);
}

static void text_args(const struct bproc_procstat_t *s, char *buf, size_t size)
{
	char path[32];
	ssize_t n = -1;
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", s->pid);
	if (local_args)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, size - 1);
		close(fd);
	}
	while (n > 0 && buf[n - 1] == '\0')
		n--;
	if (n <= 0) {
		snprintf(buf, size, "[%s]", s->comm);
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		if (buf[i] == '\0')
			buf[i] = ' ';
	buf[n] = '\0';
}

/* A number of the record as it is; or text, where there is more to say. */
enum number { NO_NUMBER, INT, UINT, ULONGLONG };
#define TEXT(fn) fn, NO_NUMBER, 0
#define AS_IS(type, field) NULL, type, offsetof(struct bproc_procstat_t, field)

static const struct column {
	const char *name, *also, *head;
	int width; /* below 0: to the left */
	text_fn text;
	enum number number;
	size_t at;
} columns[] = {
	{"pid", NULL, "PID", 7, AS_IS(INT, pid)},
	{"node", NULL, "NODE", 4, AS_IS(INT, node)},
	{"user", "euser", "USER", -8, TEXT(text_user)},
	{"uid", "euid", "UID", 5, AS_IS(UINT, uid)},
	{"ruser", NULL, "RUSER", -8, TEXT(text_ruser)},
	{"ppid", NULL, "PPID", 7, AS_IS(INT, ppid)},
	{"pgid", "pgrp", "PGID", 7, AS_IS(INT, pgid)},
	{"sid", "sess", "SID", 7, AS_IS(INT, sid)},
	{"stat", "state", "STAT", -4, TEXT(text_state)},
	{"pcpu", "%cpu", "%CPU", 5, TEXT(text_pcpu)},
	{"time", "cputime", "TIME", 8, TEXT(text_time)},
	{"cputimems", NULL, "CPUMS", 8, TEXT(text_cputime_ms)},
	{"etime", NULL, "ELAPSED", 11, TEXT(text_etime)},
	{"etimes", NULL, "ELAPSED", 7, TEXT(text_etimes)},
	{"rss", "rssize", "RSS", 7, AS_IS(ULONGLONG, rss_kb)},
	{"vsz", "vsize", "VSZ", 8, AS_IS(ULONGLONG, vsz_kb)},
	{"ni", "nice", "NI", 3, AS_IS(INT, nice)},
	{"nlwp", "thcount", "NLWP", 4, AS_IS(UINT, threads)},
	{"comm", "ucmd", "COMMAND", -15, TEXT(text_comm)},
	{"args", "cmd", "COMMAND", -27, TEXT(text_args)},
};
#define NCOLUMNS (sizeof(columns) / sizeof(columns[0]))

static struct {
	const struct column *column;
	const char *head;
} shown[COLUMNS_MAX];
static int nshown;
static bool no_heads;
static unsigned int width;

void usage_columns(void)
{
	for (size_t i = 0; i < NCOLUMNS; i++)
		printf("%s%s", i ? "," : "", columns[i].name);
	putchar('\n');
}

void print_width(unsigned int max)
{
	width = max;
}

static const struct column *find_column(const char *name)
{
	for (size_t i = 0; i < NCOLUMNS; i++)
		if (strcmp(columns[i].name, name) == 0 ||
		    (columns[i].also && strcmp(columns[i].also, name) == 0))
			return &columns[i];
	return NULL;
}

/* As with ps: "pid=,comm=NAME" gives a column another heading, or none. */
int columns_add(const char *names)
{
	char *copy = strdup(names), *save, *head;

	for (char *n = copy ? strtok_r(copy, ", ", &save) : NULL; n;
	     n = strtok_r(NULL, ", ", &save)) {
		const struct column *c;

		head = strchr(n, '=');
		if (head)
			*head++ = '\0';
		c = find_column(n);
		if (!c || nshown == COLUMNS_MAX) {
			fprintf(stderr, "bpps: %s: %s\n", n,
				c ? "too many columns" : "no such column");
			free(copy);
			return -1;
		}
		shown[nshown].column = c;
		shown[nshown++].head = head ? strdup(head) : c->head;
	}
	free(copy);
	if (nshown == 0) {
		fprintf(stderr, "bpps: -o: no columns\n");
		return -1;
	}
	no_heads = true;
	for (int i = 0; i < nshown; i++)
		no_heads &= shown[i].head && !shown[i].head[0];
	return 0;
}

/* The last column is as long as it is, and nothing that a terminal would act on. */
static void put_field(int i, const char *text, char *line, size_t size)
{
	int w = shown[i].column->width, last = i == nshown - 1;
	size_t n = strlen(line);

	if (last && w < 0)
		w = 0;
	snprintf(line + n, size - n, "%s%*s", i ? " " : "", w, text);
}

static void put_line(char *line)
{
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
	if (width > 0 && strlen(line) > width)
		line[width] = '\0';
	puts(line);
}

void print_header(void)
{
	char line[4096] = "";

	if (no_heads)
		return;
	for (int i = 0; i < nshown; i++)
		put_field(i, shown[i].head ? shown[i].head : "", line, sizeof(line));
	put_line(line);
}

static void text_of(const struct column *c, const struct bproc_procstat_t *s, char *buf,
		    size_t size)
{
	const char *at = (const char *)s + c->at;

	switch (c->number) {
	case INT:
		snprintf(buf, size, "%d", *(const int *)at);
		return;
	case UINT:
		snprintf(buf, size, "%u", *(const unsigned int *)at);
		return;
	case ULONGLONG:
		snprintf(buf, size, "%llu", *(const unsigned long long *)at);
		return;
	default:
		c->text(s, buf, size);
	}
}

void print_process(const struct bproc_procstat_t *s, bool args)
{
	char line[4096] = "", text[TEXT_MAX];

	local_args = args;
	for (int i = 0; i < nshown; i++) {
		text_of(shown[i].column, s, text, sizeof(text));
		put_field(i, text, line, sizeof(line));
	}
	put_line(line);
}
