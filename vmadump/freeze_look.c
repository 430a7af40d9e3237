/*
 * What shows of a process from outside, before it is stopped: may it be taken at all, and
 * where can it be made to call the kernel. Library code; runs in whoever dumps.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/freeze.h"
#include "vmadump/others.h"

#define VDSO_LOOK 4096u /* the shortest that there is */
/* Less than this is looked at in a millisecond or two. */
#define MUCH_FDS 128	     /* descriptors */
#define MUCH_PTE_KB 512	     /* page tables of 256 MiB: /proc/PID/smaps goes through them */
#define MUCH_MAPS_PAGES 5    /* of /proc/PID/maps */
#define MUCH_THREADS 16	     /* these are stopped and let go in that time */
#define LATE_RSS_KB 4096     /* what has no more memory is dumped in a millisecond or two */
#define PIDFD_OF_THREAD 0x80 /* PIDFD_THREAD, Linux 6.9: O_EXCL */

static const char *line_of(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? at + strlen(key) : NULL;
}

/* How many seccomp filters a process has, by its status; strict mode is one. */
static int filters(const char *status)
{
	const char *s =
		line_of(status, "\nSeccomp:\t1") ? NULL : line_of(status, "\nSeccomp_filters:\t");

	if (!s) /* before Linux 5.9 */
		s = line_of(status, "\nSeccomp:\t");
	return s ? atoi(s) : 0;
}

/* A file of /proc, n bytes with a NUL. 0 or -1. */
static int read_text(const char *path, char *text, size_t n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t r = fd < 0 ? -1 : read(fd, text, n - 1);

	if (fd >= 0)
		close(fd);
	text[r > 0 ? r : 0] = 0;
	return r > 0 ? 0 : -1;
}

/* Those that we have ourselves are this place's, a node's or a container's, and not its own. */
static int own_filters(void)
{
	char text[8192];

	return read_text("/proc/thread-self/status", text, sizeof text) < 0 ? 0 : filters(text);
}

int freeze_look_again(struct freeze *f)
{
	char path[40], text[8192];

	snprintf(path, sizeof path, "/proc/%d/status", f->t.pid);
	if (read_text(path, text, sizeof text) == 0 && filters(text) == f->has_filters)
		return 0;
	return trace_fail(&f->t, EAGAIN, "process %d has set a seccomp filter just now", f->t.pid);
}

/*
 * What of this place a process is to have in common with us: an image has it by name only. The
 * first two are what it has to be asked in: /proc is theirs.
 */
#define PLACES_FIRST 2
static const struct {
	char name[8], what[24];
	uint8_t ask; /* ioctl of a pidfd that gives it, Linux 6.11: linux/pidfd.h */
} places[] = {
	{"ns/pid", "pid namespace", 5},	    {"ns/mnt", "mount namespace", 3},
	{"ns/net", "network namespace", 4}, {"ns/user", "user namespace", 9},
	{"ns/ipc", "ipc namespace", 2},	    {"ns/uts", "uts namespace", 10},
};

static int is_other(const struct trace *t, const char *name)
{
	struct stat own, its;
	char path[48];

	snprintf(path, sizeof path, "/proc/%d/%.8s", t->pid, name);
	if (stat(path, &its) < 0) /* ptrace will say so */
		return 0;
	snprintf(path, sizeof path, "/proc/thread-self/%.8s", name);
	return stat(path, &own) == 0 && (own.st_ino != its.st_ino || own.st_dev != its.st_dev);
}

/* A name in /proc that nobody has looked at is made for the look: 10 us, and there are twelve. */
static int place_of(int pidfd, unsigned ask, struct stat *ret)
{
	int fd = ioctl(pidfd, _IO(0xff, ask), 0), r;

	if (fd < 0)
		return -1;
	r = fstat(fd, ret);
	close(fd);
	return r;
}

static int is_other_place(const struct trace *t, int its_fd, int own_fd, unsigned i)
{
	struct stat own, its;

	if (place_of(its_fd, places[i].ask, &its) < 0 || place_of(own_fd, places[i].ask, &own) < 0)
		return is_other(t, places[i].name);
	return own.st_ino != its.st_ino || own.st_dev != its.st_dev;
}

static int has_other_root(const struct trace *t)
{
	struct stat own, its;
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/root", t->pid);
	return stat(path, &its) == 0 && stat("/", &own) == 0 &&
	       (own.st_ino != its.st_ino || own.st_dev != its.st_dev);
}

static int look_at_places(struct freeze *f, unsigned i, unsigned n)
{
	/* Of this thread: it may have left its process's. */
	int own = (int)syscall(SYS_pidfd_open, (pid_t)syscall(SYS_gettid), PIDFD_OF_THREAD);
	int its = own < 0 ? -1 : (int)syscall(SYS_pidfd_open, f->t.pid, 0);

	while (i < n && !is_other_place(&f->t, its, own, i))
		i++;
	if (own >= 0)
		close(own);
	if (its >= 0)
		close(its);
	return i < n ? trace_refuse(&f->t, REFUSE_PLACE, places[i].what) : 0;
}

int freeze_look_at_rest(struct freeze *f)
{
	return f->late ? look_at_places(f, PLACES_FIRST, sizeof places / sizeof places[0]) : 0;
}

int freeze_look(struct freeze *f)
{
	struct trace *t = &f->t;
	char path[40], text[8192];
	const char *s;

	snprintf(path, sizeof path, "/proc/%d/status", t->pid);
	if (read_text(path, text, sizeof text) < 0)
		return trace_fail(t, ESRCH, "there is no process %d", t->pid);
	s = line_of(text, "\nTgid:\t");
	if (s && atoi(s) != t->pid)
		return trace_fail(t, EINVAL, "%d is a thread of process %d", t->pid, atoi(s));
	s = line_of(text, "\nState:\t");
	if (s && (*s == 'Z' || *s == 'X')) {
		s = line_of(text, "\nThreads:\t");
		return trace_refuse(t, s && atoi(s) > 1 ? REFUSE_FIRST_THREAD : REFUSE_ZOMBIE);
	}
	if (!line_of(text, "\nVmSize:"))
		return trace_refuse(t, REFUSE_KERNEL_THREAD);
	s = line_of(text, "\nTracerPid:\t");
	if (s && atoi(s))
		return trace_refuse(t, REFUSE_TRACED, atoi(s));
	s = line_of(text, "\nThreads:\t");
	f->threads = s ? atoi(s) : 1;
	s = line_of(text, "\nFDSize:\t");
	f->fds = s ? atoi(s) : 0;
	s = line_of(text, "\nVmPTE:\t");
	f->pte_kb = s ? atoi(s) : 0;
	f->has_filters = filters(text);
	if (f->has_filters && !(f->flags & FREEZE_JUDGED) && f->has_filters > own_filters() &&
	    look_at_filters(f, text) < 0)
		return -1;
	if (f->threads > 1)
		look_at_thread_filters(f);
	s = line_of(text, "\nVmRSS:\t");
	f->late = f->flags & FREEZE_LATE && s && atoi(s) <= LATE_RSS_KB;
	if (look_at_places(f, 0, f->late ? PLACES_FIRST : sizeof places / sizeof places[0]) < 0)
		return -1;
	return has_other_root(t) ? freeze_root(f) : 0;
}

/*
 * The list of mappings is read from the kernel a page at a time, of whole lines: so many pages are
 * some hundred mappings. The vdso is one of the last.
 */
static int are_many_mappings(struct freeze *f)
{
	char path[40], page[4096 + 1];
	unsigned pages = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/maps", f->t.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && pages < MUCH_MAPS_PAGES && (n = read(fd, page, sizeof page - 1)) > 0) {
		char *at;

		pages++;
		page[n] = 0;
		at = strstr(page, " [vdso]\n");
		while (at && at > page && at[-1] != '\n')
			at--;
		if (at)
			f->vdso = strtoull(at, NULL, 16);
	}
	if (fd >= 0)
		close(fd);
	return pages == MUCH_MAPS_PAGES;
}

/* The kernel says how many there are since 6.2; before, no more than there are places for. */
static int are_many_fds(const struct freeze *f)
{
	char path[40];
	struct stat st;

	if (f->fds <= MUCH_FDS)
		return 0;
	snprintf(path, sizeof path, "/proc/%d/fd", f->t.pid);
	return stat(path, &st) < 0 || st.st_size == 0 || st.st_size > MUCH_FDS;
}

int freeze_is_much(struct freeze *f)
{
	return are_many_fds(f) || f->pte_kb > MUCH_PTE_KB || are_many_mappings(f);
}

int freeze_look_more(struct freeze *f)
{
	const int much = f->flags & FREEZE_LOOK || freeze_is_much(f);

	if ((much || f->threads > MUCH_THREADS) && freeze_look_at_threads(f) < 0)
		return -1;
	if (much && freeze_look_aside(f) < 0)
		return -1;
	f->aside = much;
	return freeze_alone_ahead(f);
}

/* In every vdso of this kernel; 0: none was found. */
static uint64_t gadget_offset(void)
{
	static uint64_t offset; /* 1: none */
	const uint8_t *own = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);

	if (own && !offset) {
		offset = 1;
		for (uint32_t i = 64; i + 1 < VDSO_LOOK; i++)
			if (own[i] == 0x0f && own[i + 1] == 0x05) {
				offset = i;
				break;
			}
	}
	return offset > 1 ? offset : 0;
}

int freeze_gadget_in(struct trace *t, uint64_t vdso)
{
	struct vmad_err *err = t->err, unused;
	uint64_t offset = gadget_offset();
	uint8_t code[2] = {0};

	t->gadget = 0;
	t->err = &unused;
	if (vdso && offset && trace_get(t, vdso + offset, code, sizeof code) == 0 &&
	    code[0] == 0x0f && code[1] == 0x05)
		t->gadget = vdso + offset;
	t->err = err;
	return t->gadget != 0;
}

/* Where the kernel has put its vdso when it was made; it may have moved it since. */
static uint64_t vdso_at_first(const struct trace *t)
{
	uint64_t auxv[128], vdso = 0;
	char path[40];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/auxv", t->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, auxv, sizeof auxv);
	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i + 1 < n / 8; i += 2)
		if (auxv[i] == AT_SYSINFO_EHDR)
			vdso = auxv[i + 1];
	return vdso;
}

static uint64_t vdso_by_maps(const struct trace *t)
{
	char path[40], line[512];
	uint64_t vdso = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/maps", t->pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strstr(line, "[vdso]"))
			vdso = strtoull(line, NULL, 16);
	if (f)
		fclose(f);
	return vdso;
}

void freeze_gadget(struct freeze *f)
{
	struct trace *t = &f->t;

	if (!freeze_gadget_in(t, f->vdso) && !freeze_gadget_in(t, vdso_at_first(t)))
		freeze_gadget_in(t, vdso_by_maps(t));
}

void freeze_gadget_now(struct freeze *f)
{
	if (f->t.gadget && freeze_gadget_in(&f->t, f->t.gadget - gadget_offset()))
		return;
	f->vdso = 0;
	freeze_gadget(f);
}
