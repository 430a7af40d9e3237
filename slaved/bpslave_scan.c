/*
 * /proc of the node's pid namespace, as bpinit has it mounted: numbers in it are
 * the cluster's, so nothing of other nodes on the same kernel is ever read. Runs in
 * bpslave of a node.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpslave_born.h"
#include "slaved/used.h"


static int proc_dir = -1;
static uint64_t init_stack; /* where that of bpinit begins: its clones show the same */

int scan_open(int32_t init_host_pid, uint32_t *ret_inode)
{
	char path[64];
	struct stat st;

	scan_close();
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", init_host_pid);
	if (stat(path, &st) < 0)
		return -errno;
	*ret_inode = (uint32_t)st.st_ino;
	snprintf(path, sizeof(path), "/proc/%d/root/proc", init_host_pid);
	proc_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return proc_dir < 0 ? -errno : 0;
}

int scan_open_home(void)
{
	scan_close();
	proc_dir = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return proc_dir < 0 ? -errno : 0;
}

void scan_close(void)
{
	proc_dir = close_fd(proc_dir);
}

static ssize_t slurp(int32_t pid, const char *file, char *buf, size_t size)
{
	cleanup_fd int fd = -1;
	char path[48];
	ssize_t n;

	snprintf(path, sizeof(path), "%d/%s", pid, file);
	fd = openat(proc_dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size);
	return n < 0 ? -errno : n;
}

/* Field no of /proc/PID/stat, proc(5), given where field 3 begins. */
static const char *field(const char *p, int no)
{
	for (int i = 3; p && i < no; i++)
		p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL;
	return p;
}

int scan_stat(int32_t pid, struct scan_proc *ret)
{
	char text[1024], *name, *end;
	ssize_t n = slurp(pid, "stat", text, sizeof(text) - 1);
	struct scan_proc p = {.pid = pid};
	const char *rest;

	if (n < 0)
		return (int)n;
	text[n] = '\0';
	/* The name may hold anything, even ") R 1". */
	name = strchr(text, '(');
	end = strrchr(text, ')');
	if (!name || !end || end < name ||
	    sscanf(end + 1, " %c %d %d %d", &p.state, &p.ppid, &p.pgid, &p.sid) != 4)
		return -EBADMSG;
	used_parse(text, &p.used, NULL);
	*end = '\0';
	snprintf(p.comm, sizeof(p.comm), "%.15s", name + 1);
	/* The first thread may end before the others do, and is not waited for until then. */
	rest = field(end + 2, 20);
	if (p.state == 'Z' && rest && strtol(rest, NULL, 10) > 1)
		p.state = 'S';
	rest = field(end + 2, 28);
	p.stack = rest ? strtoull(rest, NULL, 10) : 0;
	rest = field(end + 2, 52);
	p.status = rest ? (int32_t)strtol(rest, NULL, 10) : 0;
	if (pid == 1)
		init_stack = p.stack;
	p.ours = (p.stack && p.stack == init_stack) || strcmp(p.comm, CHAN_SKELETON_NAME) == 0;
	*ret = p;
	return 0;
}

/* The kernel puts a SIGKILL to each thread of a process that it ends (complete_signal()). */
bool scan_is_dying(int32_t pid)
{
	char text[2048];
	const char *own, *end;
	ssize_t n = slurp(pid, "stat", text, sizeof(text) - 1);

	if (n <= 0)
		return true;
	text[n] = '\0';
	end = strrchr(text, ')');
	end = end ? field(end + 2, 9) : NULL;
	if (end && strtoul(end, NULL, 10) & 4 /* PF_EXITING */)
		return true;
	n = slurp(pid, "status", text, sizeof(text) - 1);
	if (n <= 0)
		return true;
	text[n] = '\0';
	own = strstr(text, "\nSigPnd:");
	return strstr(text, "\nState:\tZ") || strstr(text, "\nState:\tX") ||
	       (own && strtoull(own + 8, NULL, 16) & 1ul << (SIGKILL - 1));
}

int scan_ids(int32_t pid, struct scan_proc *ret)
{
	char text[2048];
	const char *tgid, *uid, *gid;
	ssize_t n = slurp(pid, "status", text, sizeof(text) - 1);

	if (n < 0)
		return (int)n;
	text[n] = '\0';
	tgid = strstr(text, "\nTgid:");
	uid = strstr(text, "\nUid:");
	gid = strstr(text, "\nGid:");
	if (!tgid || !uid || !gid)
		return -EBADMSG;
	ret->pid = (int32_t)strtol(tgid + 6, NULL, 10);
	return sscanf(uid + 5, "%u %u %u", &ret->uid, &ret->euid, &ret->suid) == 3 &&
			       sscanf(gid + 5, "%u %u", &ret->gid, &ret->egid) == 2
		       ? 0
		       : -EBADMSG;
}

int scan_status(int32_t pid, char *buf, size_t size)
{
	ssize_t n = slurp(pid, "status", buf, size - 1);

	if (n < 0)
		return (int)n;
	buf[n] = '\0';
	return 0;
}

size_t scan_args(int32_t pid, char *buf, size_t size)
{
	ssize_t n = slurp(pid, "cmdline", buf, size);

	return n > 0 ? (size_t)n : 0;
}

/* Just cloned by bpinit, and not yet what it is to be: not born, and soon no more. */
static bool is_bpinits(const struct scan_proc *p)
{
	return p->pid == 1 || (p->ppid == 1 && strcmp(p->comm, "bpinit") == 0);
}

int scan_each(void (*fn)(const struct scan_proc *p, void *arg), void *arg)
{
	int fd = proc_dir < 0 ? -1 : openat(proc_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct scan_proc p;
	struct dirent *e;

	if (!d) {
		close_fd(fd);
		return -errno;
	}
	while ((e = readdir(d)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
		    scan_stat((int32_t)strtol(e->d_name, NULL, 10), &p) == 0 && !is_bpinits(&p))
			fn(&p, arg);
	closedir(d);
	return 0;
}
