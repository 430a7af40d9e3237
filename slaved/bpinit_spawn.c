/*
 * bpinit: its namespaces, its children under wanted pids, and the lease: which
 * numbers the namespace's own forks get.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "slaved/bpinit.h"
#include "vmadump/carry.h"

#define LEASE_MARGIN 4096     /* numbers before the slot's end where the cursor is turned back: */
			      /* half of a small slot */
#define LEASE_MIN 1024	      /* a smaller one could run out between two looks */
#define LEASE_FORKS_PER_MS 40 /* more than this machine can make */
#define LEASE_POLL_MIN_MS 10
#define LEASE_POLL_MAX_MS 1000
#define PID_MAX_LIMIT 4194304

/* -- namespaces: called once before the fork that makes pid 1, once in pid 1 */

static int write_file(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write_full(fd, text, strlen(text));
}

static int64_t whole_seconds(int64_t ns, int64_t *ret_rest)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	if (rest < 0) {
		s--;
		rest += 1000000000;
	}
	*ret_rest = rest;
	return s;
}

/* Clocks of the node are home's, so that they do not jump when a process moves. */
static void set_time(const int64_t *timens_ns)
{
	int64_t mono, boot, mono_ns, boot_ns;
	char text[128];
	int e;

	if (!timens_ns[0] && !timens_ns[1])
		return;
	mono = whole_seconds(timens_ns[0], &mono_ns);
	boot = whole_seconds(timens_ns[1], &boot_ns);
	snprintf(text, sizeof(text), "monotonic %ld %ld\nboottime %ld %ld\n", mono, mono_ns, boot,
		 boot_ns);
	e = unshare(CLONE_NEWTIME) < 0 ? -errno : write_file("/proc/self/timens_offsets", text);
	if (e < 0)
		say("clocks stay this machine's own: %s", strerror(-e));
}

int spawn_namespaces(const int64_t *timens_ns, int ready_fd)
{
	if (ready_fd >= 0) {
		set_time(timens_ns);
		if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0) {
			say("a pid namespace: %s (CAP_SYS_ADMIN is needed)", strerror(errno));
			return -errno;
		}
		return 0;
	}
	/* Not shared back: our /proc is of our pids, the machine's stays as it is. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
		say("/proc of the namespace: %s", strerror(errno));
		return -errno;
	}
	return 0;
}

/* -- clones */

int spawn_prepare(void)
{
	size_t len;
	const void *bytes = vmad_blob_bytes(&len);
	int e;

	vmad_prepare();
	self.blob = vmad_blob_map();
	if (!self.blob)
		return -errno;
	self.code = memfd_create("bproc-blob", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (self.code < 0)
		return -errno;
	e = write_full(self.code, bytes, len);
	if (e < 0)
		return e;
	fcntl(self.code, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	/* One copy of the code for us, our clones and all their children. */
	if (mmap((void *)self.blob->base, (len + 4095) & ~4095ul, PROT_READ | PROT_EXEC,
		 MAP_PRIVATE | MAP_FIXED, self.code, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

/*
 * Never instrumented: in the child the sanitizer's memory is a copy that the blob
 * is about to unmap. Nothing of libc is called there, it does not know of the child.
 */
#define BARE __attribute__((noinline, no_sanitize("address", "undefined")))

static BARE long clone_wanted(int32_t pid, uint64_t flags)
{
	pid_t tid = pid;
	struct clone_args ca = {
		.flags = flags,
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&tid,
		.set_tid_size = pid > 0,
	};
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(SYS_clone3), "D"(&ca), "S"(sizeof(ca))
			 : "rcx", "r11", "memory");
	return r;
}

static BARE long bare_call(long n, long a, long b, long c)
{
	register long mark __asm__("r9") = CALL_MARK;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(mark)
			 : "rcx", "r11", "memory");
	return r;
}

BARE int spawn_blob(int32_t pid, int chan)
{
	struct blob *b = self.blob;
	void (*entry)(struct blob *) = (void (*)(struct blob *))b->base;
	long r;

	b->verb = BLOB_GHOST;
	b->chan = chan;
	lease_raise(pid);
	r = clone_wanted(pid, CLONE_CLEAR_SIGHAND);
	if (r == 0)
		entry(b);
	lease_lower(pid);
	return r < 0 ? (int)r : 0;
}

/*
 * No capability is dropped with the uid: home's kernel has allowed this signal
 * already, and what may differ here (a set-uid program) must not stop it.
 */
BARE int spawn_postman(int32_t pid, uint32_t uid, int32_t to, int sig, bool thread)
{
	long r;

	lease_raise(pid);
	/* Waited for: what its sender sends next may not be faster. */
	r = clone_wanted(pid, CLONE_CLEAR_SIGHAND | CLONE_VFORK);
	if (r == 0) {
		bare_call(SYS_prctl, PR_SET_SECUREBITS, 1 << 2 /* SECBIT_NO_SETUID_FIXUP */, 0);
		bare_call(SYS_setresuid, uid, uid, uid);
		r = thread ? bare_call(SYS_tgkill, to, to, sig) : bare_call(SYS_kill, to, sig, 0);
		for (;;)
			bare_call(SYS_exit_group, r < 0, 0, 0);
	}
	lease_lower(pid);
	/* Its number is free for the next one of this sender: a group's members come together. */
	while (r > 0 && waitpid((pid_t)r, NULL, __WALL) < 0 && errno == EINTR)
		;
	return r < 0 ? (int)r : 0;
}

/* -- the lease */

static struct {
	int cursor;  /* ns_last_pid, -1: not writable */
	int pid_max; /* of this namespace, -1: the kernel has one for all */
	int32_t lo, hi;
	int32_t turn; /* a cursor at or above it is turned back to lo */
	int raised;   /* clones of higher numbers under way */
	bool told;
} lease = {.cursor = -1, .pid_max = -1};

static int put_number(int fd, int32_t n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	return pwrite(fd, text, (size_t)len, 0) == len ? 0 : -errno;
}

static int32_t get_number(int fd)
{
	char text[16];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return -1;
	text[n] = '\0';
	return atoi(text);
}

/* A write to pid_max of an older kernel would be the whole machine's: 6.14 made it ours. */
static bool pid_max_is_ours(void)
{
	struct utsname u;
	int major, minor;

	return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 14));
}

void lease_probe(void)
{
	if (self.keeper)
		return; /* home's numbers are its own */
	lease.cursor = open("/proc/sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC);
	if (lease.cursor < 0 || put_number(lease.cursor, get_number(lease.cursor)) < 0) {
		say("/proc/sys/kernel/ns_last_pid: %s: pids born here are not from the lease",
		    strerror(errno));
		lease.cursor = close_fd(lease.cursor);
		return;
	}
	if (pid_max_is_ours())
		lease.pid_max = open("/proc/sys/kernel/pid_max", O_RDWR | O_CLOEXEC);
	if (lease.pid_max >= 0 && put_number(lease.pid_max, PID_MAX_LIMIT) < 0)
		lease.pid_max = close_fd(lease.pid_max);
}

void init_lease(const struct init_msg *m)
{
	int32_t lo = m->u.lease.lo, hi = m->u.lease.hi, at;

	if (self.keeper || lease.cursor < 0)
		return;
	if (lo < 300 || hi > PID_MAX_LIMIT || hi - lo < LEASE_MIN) {
		say("lease of pids %d to %d: refused", lo, hi);
		return;
	}
	if (lo == lease.lo && hi == lease.hi)
		return; /* said again by a bpslave that was restarted */
	lease.lo = lo;
	lease.hi = hi;
	lease.turn = hi - ((hi - lo) / 2 < LEASE_MARGIN ? (hi - lo) / 2 : LEASE_MARGIN);
	if (lease.pid_max >= 0 && lease.raised == 0)
		put_number(lease.pid_max, hi);
	at = m->u.lease.next > lo && m->u.lease.next < lease.turn ? m->u.lease.next : lo;
	if (put_number(lease.cursor, at - 1) < 0)
		say("ns_last_pid: %s", strerror(errno));
}

/*
 * Turns the cursor back in time. Where pid_max is the slot's end the kernel does
 * not run past it but wraps to 300: such a number is lost to the cluster, and seen
 * here by the cursor being below the slot.
 */
int lease_tick(void)
{
	int32_t at, left;

	if (lease.hi == 0)
		return -1;
	at = get_number(lease.cursor);
	left = lease.turn - at;
	if (at < lease.lo - 1 || at >= lease.hi || left <= 0) {
		if (at < lease.lo - 1 && !lease.told)
			say("pids ran out of the slot to %d: those processes have no name outside",
			    at);
		lease.told = at < lease.lo - 1;
		put_number(lease.cursor, lease.lo - 1);
		left = lease.turn - lease.lo;
	}
	left /= LEASE_FORKS_PER_MS;
	return left < LEASE_POLL_MIN_MS	  ? LEASE_POLL_MIN_MS
	       : left > LEASE_POLL_MAX_MS ? LEASE_POLL_MAX_MS
					  : left;
}

bool lease_is_beyond(int32_t pid)
{
	return lease.pid_max >= 0 && lease.hi && pid >= lease.hi;
}

void lease_raise(int32_t pid)
{
	if (lease_is_beyond(pid) && lease.raised++ == 0)
		put_number(lease.pid_max, PID_MAX_LIMIT);
}

void lease_lower(int32_t pid)
{
	if (lease_is_beyond(pid) && --lease.raised == 0)
		put_number(lease.pid_max, lease.hi);
}
