/*
 * bpinit: what /proc says of the processes of its pid namespace, read without
 * memory of its own: one at a time into a buffer on the stack. Numbers are the
 * namespace's, since that is whose /proc is mounted here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slaved/bpinit_kill.h"
#include "slaved/procfile.h"

#define STATUS_MAX 3072 /* bytes */
#define CAP_KILL_BIT 5

/* The text behind "\nNAME:\t", or "". The name of the process has its newlines escaped. */
static const char *field(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? p + strlen(name) : "";
}

int look_at(int32_t pid, struct look *ret)
{
	char text[STATUS_MAX], stat[512];
	ssize_t n = proc_file(AT_FDCWD, pid, "status", text, sizeof(text));
	const char *uid, *name, *caps, *end;

	if (n < 0)
		return (int)n;
	n = proc_file(AT_FDCWD, pid, "stat", stat, sizeof(stat));
	if (n < 0)
		return (int)n;
	*ret = (struct look){.pid = pid};
	end = strrchr(stat, ')'); /* the name may hold anything, even ") R 1" */
	if (!end || sscanf(end + 1, " %c %*d %d %d", &ret->state, &ret->pgid, &ret->sid) != 3)
		return -EBADMSG;
	uid = field(text, "\nUid:\t");
	if (sscanf(uid, "%u %u %u", &ret->uid, &ret->euid, &ret->suid) != 3)
		return -EBADMSG;
	ret->tgid = atoi(field(text, "\nTgid:\t"));
	/* Behind thousands of groups it is not read: what root usually has. */
	caps = field(text, "\nCapEff:\t");
	ret->cap_kill = *caps ? strtoull(caps, NULL, 16) >> CAP_KILL_BIT & 1 : ret->euid == 0;
	name = field(text, "Name:\t");
	memcpy(ret->comm, name, strnlen(name, sizeof(ret->comm) - 1));
	ret->comm[strcspn(ret->comm, "\n")] = '\0';
	return 0;
}

uint64_t look_pending(int32_t pid, uint64_t *ret_blocked)
{
	char text[STATUS_MAX];

	*ret_blocked = 0;
	if (proc_file(AT_FDCWD, pid, "status", text, sizeof(text)) < 0)
		return 0;
	*ret_blocked = strtoull(field(text, "\nSigBlk:\t"), NULL, 16);
	return strtoull(field(text, "\nSigPnd:\t"), NULL, 16) |
	       strtoull(field(text, "\nShdPnd:\t"), NULL, 16);
}

/* The group alone: for all that are not in the one that is looked for this is enough. */
static bool in_group(int32_t pid, int32_t pgid)
{
	return pgid < 0 || getpgid(pid) == pgid;
}

void look_each(int32_t pgid, void (*fn)(const struct look *l, void *arg), void *arg)
{
	static char buf[16384] __attribute__((aligned(16)));
	cleanup_fd int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent64 *e;
	struct look l;
	ssize_t n;

	/* readdir() would ask for memory. */
	while (fd >= 0 && (n = getdents64(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n; at += e->d_reclen) {
			e = (struct dirent64 *)(void *)(buf + at);
			if (e->d_name[0] < '1' || e->d_name[0] > '9')
				continue;
			if (in_group(atoi(e->d_name), pgid) && look_at(atoi(e->d_name), &l) == 0)
				fn(&l, arg);
		}
	}
}
