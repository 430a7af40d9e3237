/*
 * A lock of an open description (flock, OFD) is given up by one that leaves with
 * BPROC_MOVE_LOCKS only where no other process has the description: it would be gone for that
 * one as well. One that moves with it is no such other. Library code; runs in whoever moves it,
 * when it is parked, and sees what that one may see.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/freeze.h"
#include "vmadump/others.h"
#include "vmadump/tree.h"

struct locked {
	int fd;
	struct stat st;
};

static bool holds_one(int pid, int fd)
{
	char path[48], line[256];
	bool holds = false;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fd);
	f = fopen(path, "re");
	while (f && !holds && fgets(line, sizeof line, f))
		holds = strncmp(line, "lock:", 5) == 0 &&
			(strstr(line, " FLOCK ") || strstr(line, " OFDLCK "));
	if (f)
		fclose(f);
	return holds;
}

static int find_locked(struct freeze *f, struct locked **ret, int *ret_n)
{
	DIR *d = proc_dir(f->t.pid, "fd");
	const char *name;
	int fd, r = 0;

	while (d && r == 0 && (fd = proc_next(d, &name)) >= 0) {
		struct locked *more;

		if (!holds_one(f->t.pid, fd))
			continue;
		more = reallocarray(*ret, (size_t)*ret_n + 1, sizeof *more);
		if (!more) {
			r = trace_fail(&f->t, ENOMEM, "%s", strerror(ENOMEM));
			break;
		}
		*ret = more;
		more[*ret_n].fd = fd;
		*ret_n += fstatat(dirfd(d), name, &more[*ret_n].st, 0) == 0;
	}
	if (d)
		closedir(d);
	return r;
}

static int look_at(struct freeze *f, int pid, const struct locked *l, int n)
{
	DIR *d = proc_dir(pid, "fd");
	const char *name;
	struct stat st;
	int fd, r = 0;

	while (d && r == 0 && (fd = proc_next(d, &name)) >= 0) {
		if (fstatat(dirfd(d), name, &st, 0) < 0)
			continue;
		for (int i = 0; r == 0 && i < n; i++)
			if (st.st_ino == l[i].st.st_ino && st.st_dev == l[i].st.st_dev &&
			    syscall(SYS_kcmp, f->t.pid, pid, KCMP_FILE, l[i].fd, fd) == 0)
				r = trace_refuse(&f->t, REFUSE_FD_LOCK_SHARED, l[i].fd, pid);
	}
	if (d)
		closedir(d);
	return r;
}

int freeze_look_at_locks(struct freeze *f, const struct tree *with)
{
	struct locked *l = NULL;
	int n = 0, r = find_locked(f, &l, &n), pid;
	DIR *d = r == 0 && n ? opendir("/proc") : NULL;
	const char *name;

	while (d && r == 0 && (pid = proc_next(d, &name)) >= 0)
		if (pid != f->t.pid && !(with && tree_find(with, pid)))
			r = look_at(f, pid, l, n);
	if (d)
		closedir(d);
	free(l);
	return r;
}
