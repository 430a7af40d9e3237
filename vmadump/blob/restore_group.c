/*
 * The cgroups that a process was in, of a process that is made for its image. Runs in the blob.
 */
#include "lib.h"
#include "proc.h"
#include "restore.h"
#include "sys.h"

/*
 * One line of /proc/PID/cgroup, "4:memory:/jobs/1" or "0::/jobs/1": into that group, if it is there
 * and it may. Where they are mounted is everybody's custom.
 */
static void join_group(const char *line, const char *end)
{
	static const char mounts[][32] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	char name[64], path[512], file[sizeof path + 128]; /* longer ones are left */
	const char *s = line;
	uint64_t n = 0;
	long fd = -1;

	while (s < end && *s++ != ':')
		;
	while (s < end && *s != ':' && n + 1 < sizeof name)
		name[n++] = *s++;
	name[n] = 0;
	if (s >= end || *s != ':' || end - s > (long)sizeof path)
		return;
	n = (uint64_t)(end - s) - 1;
	memcpy(path, s + 1, n);
	path[n] = 0;
	for (uint32_t i = 0; fd < 0 && i < (name[0] ? 1 : COUNT(mounts)); i++) {
		const char *group = str_starts(name, "name=") ? name + 5 : name;

		str_format(file, sizeof file, "%s%s%s%s/cgroup.procs", mounts[i],
			   name[0] ? "/" : "", group, str_eq(path, "/") ? "" : path);
		fd = sys_open(file, O_WRONLY | O_CLOEXEC, 0);
	}
	if (fd < 0)
		return;
	sys_write((int)fd, "0", 1);
	sys_close((int)fd);
}

/* Where there are such groups: it is nothing that a program counts on. */
void rest_groups(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_CGROUP];
	const char *s = (const char *)rec->p, *end = s + rec->len, *line = s;
	char *own;
	uint64_t mark = arena_mark(r->b);
	long n;

	if (!rec->len || rec->len > IMAGE_CGROUP_MAX)
		return;
	own = arena_raw(r->b, IMAGE_CGROUP_MAX);
	n = own ? proc_read("/proc/self/cgroup", own, IMAGE_CGROUP_MAX) : -1;
	if (n > 0 && ((uint64_t)n != rec->len || memcmp(own, s, rec->len) != 0))
		for (; s < end; s++) {
			if (*s != '\n')
				continue;
			join_group(line, s);
			line = s + 1;
		}
	arena_release(r->b, mark);
}
