/*
 * What shows of a process's threads from outside, before they are stopped. Library code; runs in
 * whoever dumps.
 *
 * To stop a thread and let it go takes 80 us, and the blob refuses them when all of them stand. Of
 * many that is found before, in 30 us each, while they run. Nothing is refused here that would not
 * be then (blob/dump_thread.c), and what changes meanwhile is refused then.
 */
#include <dirent.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/filters.h"

#define KCMP_FILES 2
#define KCMP_FS 3
#define IDS 3 /* real, effective, saved */

struct seen {
	uint64_t mode, nnp, permitted, effective;
	unsigned long uid[IDS], gid[IDS];
};

static void ids(const char *status, const char *key, unsigned long id[IDS])
{
	const char *at = strstr(status, key);
	char *end;

	at = at ? at + strlen(key) : "";
	for (int i = 0; i < IDS; i++, at = end)
		id[i] = strtoul(at, &end, 10);
}

static int see(pid_t pid, pid_t tid, struct seen *ret)
{
	char text[8192];

	if (thread_status(pid, tid, text, sizeof text) < 0)
		return -1;
	ret->mode = status_number(text, "\nSeccomp:\t", 10);
	ret->nnp = status_number(text, "\nNoNewPrivs:\t", 10);
	ret->permitted = status_number(text, "\nCapPrm:\t", 16);
	ret->effective = status_number(text, "\nCapEff:\t", 16);
	ids(text, "\nUid:\t", ret->uid);
	ids(text, "\nGid:\t", ret->gid);
	return 0;
}

/* Of one thread; what kcmp(2) may not tell is told when it is stopped. */
static int check(struct freeze *f, pid_t tid, const struct seen *s, const struct seen *first)
{
	if (syscall(SYS_kcmp, f->t.pid, tid, KCMP_FILES, 0, 0) > 0 ||
	    syscall(SYS_kcmp, f->t.pid, tid, KCMP_FS, 0, 0) > 0)
		return trace_refuse(&f->t, REFUSE_UNSHARED, (int)tid);
	if (f->to_leave && first->nnp && !s->nnp)
		return trace_refuse(&f->t, REFUSE_NNP, (int)tid);
	if (memcmp(s->uid, first->uid, sizeof s->uid) != 0 ||
	    memcmp(s->gid, first->gid, sizeof s->gid) != 0 || s->permitted != first->permitted ||
	    s->effective != first->effective)
		return trace_refuse(&f->t, REFUSE_CREDS, (int)tid);
	return 0;
}

int freeze_look_at_threads(struct freeze *f)
{
	struct seen first, s;
	int filters = 0, r = 0;
	pid_t strict = 0;
	struct dirent *e;
	char path[40];
	DIR *d;

	if (f->threads == 1 || see(f->t.pid, f->t.pid, &first) < 0)
		return 0;
	snprintf(path, sizeof path, "/proc/%d/task", f->t.pid);
	d = opendir(path);
	while (d && r == 0 && (e = readdir(d))) {
		pid_t tid = atoi(e->d_name);

		if (tid <= 0 || see(f->t.pid, tid, &s) < 0)
			continue;
		filters |= s.mode == SECCOMP_MODE_FILTER;
		if (s.mode == SECCOMP_MODE_STRICT)
			strict = tid;
		r = check(f, tid, &s, &first);
	}
	if (d)
		closedir(d);
	/* Where one has filters an image has the list of each. */
	if (r == 0 && strict && !filters && first.mode != SECCOMP_MODE_STRICT)
		r = trace_refuse(&f->t, REFUSE_SECCOMP_THREAD, (int)strict);
	return r;
}
