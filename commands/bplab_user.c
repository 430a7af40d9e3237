/*
 * Labs of ordinary users: the user namespace and its id maps, written by the
 * outer process, and the search for the kernel setting that is in the way when
 * the kernel refuses.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bplab.h"

/* Real root of this machine: namespaces can be made without a user namespace. */
bool user_is_privileged(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	if (geteuid() != 0 || syscall(SYS_capget, &h, d) < 0)
		return false;
	return (d[0].effective & (1u << CAP_SYS_ADMIN)) && (d[0].effective & (1u << CAP_NET_ADMIN));
}

static int write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];
	cleanup_fd int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* The first range that file gives to this user ("name:start:count"). */
static bool sub_range(const char *file, const char *user, unsigned *ret_start, unsigned *ret_count)
{
	char line[256], name[128];
	unsigned start, count;
	bool found = false;
	FILE *f = fopen(file, "re");

	while (f && !found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%127[^:]:%u:%u", name, &start, &count) == 3 &&
		    !strcmp(name, user) && count >= 65535) {
			*ret_start = start;
			*ret_count = 65535;
			found = true;
		}
	}
	if (f)
		fclose(f);
	return found;
}

static int map_tool(const char *tool, pid_t pid, unsigned id, unsigned start, unsigned count)
{
	char p[16], i[16], s[16], c[16];
	const char *const argv[] = {tool, p, "0", i, "1", "1", s, c, NULL};
	int status;
	pid_t child;

	snprintf(p, sizeof(p), "%d", (int)pid);
	snprintf(i, sizeof(i), "%u", id);
	snprintf(s, sizeof(s), "%u", start);
	snprintf(c, sizeof(c), "%u", count);
	child = fork();
	if (child == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(tool, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -errno;
	return status == 0 ? 0 : -EPERM;
}

/* All of a user's ids, if newuidmap(1) is there and subordinate ids are given. */
static int map_many(pid_t pid)
{
	struct passwd *pw = getpwuid(geteuid());
	unsigned us, uc, gs, gc;
	int r;

	if (!pw || !sub_range("/etc/subuid", pw->pw_name, &us, &uc) ||
	    !sub_range("/etc/subgid", pw->pw_name, &gs, &gc))
		return -ENOENT;
	r = map_tool("newgidmap", pid, getegid(), gs, gc);
	return r < 0 ? r : map_tool("newuidmap", pid, geteuid(), us, uc);
}

/* Root inside is the caller outside; more ids where newuidmap(1) gives them. */
int user_map(pid_t pid)
{
	char text[64];
	int r;

	if (map_many(pid) == 0)
		return 0;
	snprintf(text, sizeof(text), "0 %u 1\n", (unsigned)geteuid());
	if ((r = write_proc(pid, "uid_map", text)) < 0)
		return r;
	write_proc(pid, "setgroups", "deny");
	snprintf(text, sizeof(text), "0 %u 1\n", (unsigned)getegid());
	r = write_proc(pid, "gid_map", text);
	/* newgidmap may have done its half before newuidmap refused. */
	return r == -EPERM ? 0 : r;
}

/* The number in a file of /proc/sys, or -1 if there is no such setting. */
static long setting(const char *name)
{
	char path[128], buf[32] = "";
	long v = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	f = fopen(path, "re");
	if (f && fgets(buf, sizeof(buf), f))
		v = strtol(buf, NULL, 10);
	if (f)
		fclose(f);
	return v;
}

static bool under_seccomp(void)
{
	char line[128];
	bool on = false;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "Seccomp:", 8))
			on = strtol(line + 8, NULL, 10) != 0;
	if (f)
		fclose(f);
	return on;
}

/* err came from making namespaces (what NULL) or from mounting what. */
void user_explain(int err, const char *what)
{
	static const char *const kinds[] = {"user", "pid", "mnt", "net", "uts", "ipc"};
	char name[64];
	bool found = false;

	if (what)
		lab_warn("cannot mount %s: %s", what, strerror(err));
	else
		lab_warn("cannot make namespaces: %s", strerror(err));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		snprintf(name, sizeof(name), "user/max_%s_namespaces", kinds[i]);
		if (err == ENOSPC && setting(name) >= 0 && setting(name) < 8) {
			lab_warn("sysctl user.max_%s_namespaces is %ld: a lab needs more", kinds[i],
				 setting(name));
			found = true;
		}
	}
	if (setting("kernel/unprivileged_userns_clone") == 0 && !user_is_privileged()) {
		lab_warn("sysctl kernel.unprivileged_userns_clone is 0: it must be 1, or run as "
			 "root");
		found = true;
	}
	if (setting("kernel/apparmor_restrict_unprivileged_userns") == 1 && !user_is_privileged()) {
		lab_warn("sysctl kernel.apparmor_restrict_unprivileged_userns is 1: it must be 0, "
			 "or run as root");
		found = true;
	}
	if (found)
		return;
	if (err == EPERM && what && !strcmp(what, "/proc"))
		lab_warn("parts of /proc are masked here, as in a container: a lab of an ordinary "
			 "user needs the whole of it");
	else if (err == ENOSPC)
		lab_warn("a limit of an enclosing user namespace (sysctl user.max_*_namespaces "
			 "there), or more than 32 namespaces in each other");
	else if (under_seccomp())
		lab_warn("a seccomp filter is on this process, as in a container: it must allow "
			 "clone, unshare and mount");
	else if (err == ENOSYS || err == EINVAL)
		lab_warn("this kernel lacks namespaces (CONFIG_USER_NS, CONFIG_PID_NS, "
			 "CONFIG_NET_NS)");
	else if (err == EPERM && !what)
		lab_warn("this user or group has no number in the user namespace it is in, or the "
			 "process is in a chroot");
}
