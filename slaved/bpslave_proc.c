/*
 * What the kernel says about a process that asks to leave, and about those whom
 * its copy must find on the other node (DESIGN, invariant 3). Runs in bpslave,
 * outside the node's pid namespace: the last number of an NS line is the one the
 * cluster knows.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bpslave_born.h"

#define STATUS_MAX 16384 /* bytes; 65536 groups would not fit, and may not move */

/* "a b c": up to max numbers of base; how many there are in all. */
static uint32_t numbers(const char *p, int base, uint32_t *ret, uint32_t max)
{
	uint32_t n = 0;
	char *end;

	for (;; p = end) {
		unsigned long v;

		while (*p == ' ' || *p == '\t')
			p++;
		if (!isxdigit((unsigned char)*p))
			return n;
		v = strtoul(p, &end, base);
		if (end == p)
			return n;
		if (n < max)
			ret[n] = (uint32_t)v;
		n++;
	}
}

static int32_t last_number(const char *p, int32_t *ret_count)
{
	uint32_t v[32], n = numbers(p, 10, v, 32);

	if (ret_count)
		*ret_count = (int32_t)n;
	return n > 0 && n <= 32 ? (int32_t)v[n - 1] : -1;
}

/* The kernel writes a tab, backslash or newline of the name as an escape. */
static void parse_comm(const char *p, char comm[16])
{
	size_t n = 0;

	for (; *p && *p != '\n' && n < 15; p++) {
		if (*p == '\\' && p[1] == 'n') {
			comm[n++] = '\n';
			p++;
		} else if (*p == '\\' && p[1] == '\\') {
			comm[n++] = '\\';
			p++;
		} else {
			comm[n++] = *p;
		}
	}
	comm[n] = '\0';
}

enum field {
	F_NAME,
	F_PID,
	F_PPID,
	F_UID,
	F_GID,
	F_GROUPS,
	F_NSPID,
	F_NSPGID,
	F_NSSID,
	F_PEAK, /* not of one that has no memory any more */
	F_THREADS,
	F_INH,
	F_PRM,
	F_EFF,
	F_BND,
	F_AMB,
	F_NNP,
	F_SECCOMP,
	F_FILTERS, /* Linux 5.9 */
	F_COUNT
};
static const struct {
	const char *name;
	uint8_t len;
} fields[F_COUNT] = {
#define FIELD(f, s) [f] = {s ":", sizeof(s)}
	FIELD(F_NAME, "Name"),	 FIELD(F_PID, "Pid"),	    FIELD(F_PPID, "PPid"),
	FIELD(F_UID, "Uid"),	 FIELD(F_GID, "Gid"),	    FIELD(F_GROUPS, "Groups"),
	FIELD(F_NSPID, "NSpid"), FIELD(F_NSPGID, "NSpgid"), FIELD(F_NSSID, "NSsid"),
	FIELD(F_PEAK, "VmHWM"),	 FIELD(F_THREADS, "Threads"),
	FIELD(F_INH, "CapInh"),	 FIELD(F_PRM, "CapPrm"),    FIELD(F_EFF, "CapEff"),
	FIELD(F_BND, "CapBnd"),	 FIELD(F_AMB, "CapAmb"),    FIELD(F_NNP, "NoNewPrivs"),
	FIELD(F_SECCOMP, "Seccomp"), FIELD(F_FILTERS, "Seccomp_filters"),
#undef FIELD
};

static uint64_t *capability(enum field f, struct proc_ids *ids)
{
	return f == F_INH   ? &ids->cap_inh
	       : f == F_PRM ? &ids->cap_prm
	       : f == F_EFF ? &ids->cap_eff
	       : f == F_BND ? &ids->cap_bnd
			    : &ids->cap_amb;
}

static void take_field(enum field f, const char *p, struct proc_ids *ids)
{
	switch (f) {
	case F_NAME:
		parse_comm(p + (*p == '\t'), ids->comm);
		break;
	case F_PID:
		ids->host_pid = (int32_t)strtol(p, NULL, 10);
		break;
	case F_PPID:
		ids->host_ppid = (int32_t)strtol(p, NULL, 10);
		break;
	case F_UID:
		numbers(p, 10, ids->uid, 4);
		break;
	case F_GID:
		numbers(p, 10, ids->gid, 4);
		break;
	case F_GROUPS:
		ids->ngroups = numbers(p, 10, ids->group, CHAN_NGROUPS);
		break;
	case F_NSPID:
		ids->pid = last_number(p, &ids->ns_depth);
		break;
	case F_NSPGID:
		ids->pgid = last_number(p, NULL);
		break;
	case F_NSSID:
		ids->sid = last_number(p, NULL);
		break;
	case F_PEAK:
		ids->peak_kb = strtoull(p, NULL, 10);
		break;
	case F_THREADS:
		ids->threads = (uint32_t)strtoul(p, NULL, 10);
		break;
	case F_INH:
	case F_PRM:
	case F_EFF:
	case F_BND:
	case F_AMB:
		*capability(f, ids) = strtoull(p, NULL, 16);
		break;
	case F_NNP:
		ids->no_new_privs = (uint32_t)strtoul(p, NULL, 10);
		break;
	case F_SECCOMP:
		ids->seccomp = (uint32_t)strtoul(p, NULL, 10);
		break;
	case F_FILTERS:
		ids->filters = (uint32_t)strtoul(p, NULL, 10);
		break;
	case F_COUNT:
		break;
	}
}

int proc_parse_status(const char *text, struct proc_ids *ret_ids)
{
	struct proc_ids ids = {.pid = -1, .pgid = -1, .sid = -1};
	uint32_t seen = 0;
	int f = 0;

	/* The fields come in the order of the table on every kernel: search from the last. */
	for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		for (int i = 0, at = f; i < F_COUNT; i++, at = (at + 1) % F_COUNT) {
			if (strncmp(p, fields[at].name, fields[at].len) != 0)
				continue;
			take_field((enum field)at, p + fields[at].len, &ids);
			seen |= 1u << at;
			f = (at + 1) % F_COUNT;
			break;
		}
	}
	/* Not every kernel has them, nor every process. */
	seen |= 1u << F_SECCOMP | 1u << F_FILTERS | 1u << F_PEAK;
	if (seen != (1u << F_COUNT) - 1 || ids.pid < 0 || ids.pgid < 0 || ids.sid < 0)
		return -EBADMSG;
	*ret_ids = ids;
	return 0;
}

int proc_read_ids(int32_t host_pid, struct proc_ids *ret_ids)
{
	cleanup_fd int fd = -1;
	char path[32], text[STATUS_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", host_pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return proc_parse_status(text, ret_ids);
}

int proc_read_cred(const struct proc_ids *ids, struct chan_cred *ret_cred)
{
	struct chan_cred c = {
		.ngroups = ids->ngroups,
		.cap_inh = ids->cap_inh,
		.cap_prm = ids->cap_prm,
		.cap_eff = ids->cap_eff,
		.cap_bnd = ids->cap_bnd,
		.cap_amb = ids->cap_amb,
		.no_new_privs = ids->no_new_privs,
	};
	struct rlimit lim;

	if (ids->ngroups > CHAN_NGROUPS)
		return -E2BIG;
	memcpy(c.uid, ids->uid, sizeof(c.uid));
	memcpy(c.gid, ids->gid, sizeof(c.gid));
	memcpy(c.group, ids->group, sizeof(c.group));
	errno = 0;
	c.nice = getpriority(PRIO_PROCESS, (id_t)ids->host_pid);
	if (errno != 0)
		return -errno;
	/* Sixteen calls of 0.2 us cost a tenth of formatting and parsing /proc/PID/limits. */
	for (int r = 0; r < 16; r++) {
		if (prlimit(ids->host_pid, r, NULL, &lim) < 0) {
			int e = errno == EPERM ? proc_read_limits(ids->host_pid, c.rlim) : -errno;

			if (e < 0)
				return e;
			break;
		}
		c.rlim[r][0] = lim.rlim_cur;
		c.rlim[r][1] = lim.rlim_max;
	}
	*ret_cred = c;
	return 0;
}

bool proc_is_cluster(const struct proc_ids *ids)
{
	return ids->ns_depth == (slave.node == HOME_NODE ? 1 : 2) && ids->pid > 1;
}

static bool in_chain(const struct proc_chain *c, int32_t pid)
{
	for (int i = 0; i < c->n; i++)
		if (c->member[i].pid == pid)
			return true;
	return false;
}

static int put(struct proc_chain *c, const struct proc_ids *ids, int32_t ppid)
{
	struct init_chain *m = &c->member[c->n];

	if (c->n == INIT_CHAIN_MAX)
		return -E2BIG;
	*m = (struct init_chain){.pid = ids->pid,
				 .ppid = ppid,
				 .pgid = ids->pgid,
				 .sid = ids->sid,
				 .uid = ids->uid[0],
				 .gid = ids->gid[0]};
	memcpy(m->comm, ids->comm, sizeof(m->comm));
	c->n++;
	return 0;
}

/* The cluster's number of a parent, or 0 if it has none: bpinit's or init's child. */
static int32_t cluster_pid(int32_t host_pid, struct proc_ids *ret_ids)
{
	if (host_pid <= 1 || proc_read_ids(host_pid, ret_ids) < 0 || !proc_is_cluster(ret_ids))
		return 0;
	return ret_ids->pid;
}

/*
 * A process by the cluster's number, and its parent's: on a node bpinit's /proc has it. The lists
 * of children in /proc leave some out while others end.
 */
static int find_leader(int32_t pid, struct proc_ids *ret_ids, int32_t *ret_ppid)
{
	struct proc_ids parent;
	char text[STATUS_MAX];
	int e;

	if (slave.node == HOME_NODE) {
		e = proc_read_ids(pid, ret_ids);
		if (e == 0 && !proc_is_cluster(ret_ids))
			e = -ESRCH;
		if (e == 0)
			*ret_ppid = cluster_pid(ret_ids->host_ppid, &parent);
		return e;
	}
	e = scan_status(pid, text, sizeof(text));
	if (e == 0)
		e = proc_parse_status(text, ret_ids);
	if (e == 0)
		*ret_ppid = ret_ids->host_ppid > 1 ? ret_ids->host_ppid : 0;
	return e;
}

int proc_read_leader(int32_t pid, struct init_chain *ret)
{
	struct proc_chain c = {.n = 0};
	struct proc_ids ids;
	int32_t ppid;
	int e = find_leader(pid, &ids, &ppid);

	if (e == 0)
		e = put(&c, &ids, ppid);
	if (e == 0)
		*ret = c.member[0];
	return e;
}

/* The leader of up's group or session, if it lives and is not an ancestor. */
static int put_leader(struct proc_chain *c, const struct proc_ids *up, int32_t pid)
{
	struct proc_ids leader;
	int32_t ppid;

	if (pid <= 1 || in_chain(c, pid) || pid == up->pid)
		return 0;
	if (find_leader(pid, &leader, &ppid) < 0 || leader.sid != up->sid)
		return 0;
	return put(c, &leader, ppid);
}

/*
 * What a parent has not waited for yet shows in /proc/PID/stat: its last field but none is how a
 * zombie ended, and of a stopped process the signal, which is 0 when the stop has been waited for
 * (fs/proc/array.c and kernel/exit.c, group_exit_code). A ghost is stopped under its tracer; other
 * stops of a tracer have other numbers.
 */
static void read_wait_state(int32_t host_pid, struct init_chain *m)
{
	char path[32], text[1024], *p;
	cleanup_fd int fd = -1;
	ssize_t n;
	int code = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", host_pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	p = strrchr(text, ')');
	if (!p || strlen(p) < 3)
		return;
	code = (int)strtol(strrchr(p, ' '), NULL, 10);
	if (p[2] == 'Z' || p[2] == 'X') {
		m->state = CHAIN_ENDED;
		m->status = code;
	} else if ((p[2] == 'T' || p[2] == 't') &&
		   (code == SIGSTOP || code == SIGTSTP || code == SIGTTIN || code == SIGTTOU)) {
		m->state = CHAIN_STOPPED;
		m->status = code;
	} else if ((p[2] == 'T' || p[2] == 't') && code == 0) {
		m->state = CHAIN_STOP_SEEN;
		m->status = SIGSTOP;
	}
}

static int put_child(struct proc_chain *c, int32_t host_pid, int32_t ppid)
{
	struct proc_ids ids;
	struct init_chain *m;
	int e;

	if (proc_read_ids(host_pid, &ids) < 0 || !proc_is_cluster(&ids))
		return 0;
	/* The leader of its parent's group, maybe: but it is to be made as a child. */
	for (int i = 0; i < c->n; i++) {
		if (c->member[i].pid != ids.pid)
			continue;
		memmove(&c->member[i], &c->member[i + 1],
			sizeof(c->member[0]) * (size_t)(c->n - i - 1));
		c->n--;
		break;
	}
	e = put(c, &ids, ppid);
	if (e < 0)
		return e;
	m = &c->member[c->n - 1];
	m->child = 1;
	read_wait_state(host_pid, m);
	return 0;
}

/* Of one thread: a child is in the list of the thread that has forked it. */
static int read_children(const struct proc_ids *ids, int32_t tid, struct proc_chain *chain)
{
	char path[64], text[4096];
	cleanup_fd int fd = -1;
	char *end;
	ssize_t n;
	int e = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", ids->host_pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	for (char *p = text; e == 0; p = end) {
		long child = strtol(p, &end, 10);

		if (end == p)
			break;
		e = put_child(chain, (int32_t)child, ids->pid);
	}
	return e;
}

int proc_read_children(const struct proc_ids *ids, struct proc_chain *chain)
{
	int e = read_children(ids, ids->host_pid, chain);
	char path[32];
	struct dirent *d;
	DIR *dir;

	if (ids->threads < 2 || e < 0)
		return e;
	snprintf(path, sizeof(path), "/proc/%d/task", ids->host_pid);
	dir = opendir(path);
	while (dir && e == 0 && (d = readdir(dir))) {
		int32_t tid = (int32_t)strtol(d->d_name, NULL, 10);

		if (tid > 0 && tid != ids->host_pid)
			e = read_children(ids, tid, chain);
	}
	if (dir)
		closedir(dir);
	return e;
}

int proc_read_chain(const struct proc_ids *ids, bool child, struct proc_chain *ret_chain)
{
	struct proc_ids up[INIT_CHAIN_MAX], top;
	int n = 0, e;

	ret_chain->n = 0;
	ret_chain->ppid = 0;
	if (child)
		up[n++] = *ids;
	else if ((ret_chain->ppid = cluster_pid(ids->host_ppid, &up[0])) > 0)
		n++;
	while (n > 0 && up[n - 1].pid != up[n - 1].sid) {
		if (n == INIT_CHAIN_MAX)
			return -E2BIG;
		if (cluster_pid(up[n - 1].host_ppid, &up[n]) == 0)
			break;
		n++;
	}
	for (int i = n - 1; i >= 0; i--) {
		int32_t ppid = i == n - 1 ? cluster_pid(up[i].host_ppid, &top) : up[i + 1].pid;

		e = put_leader(ret_chain, &up[i], up[i].sid);
		if (e == 0)
			e = put_leader(ret_chain, &up[i], up[i].pgid);
		if (e == 0 && !in_chain(ret_chain, up[i].pid))
			e = put(ret_chain, &up[i], ppid);
		if (e < 0)
			return e;
	}
	if (!child) {
		e = put_leader(ret_chain, ids, ids->sid);
		return e < 0 ? e : put_leader(ret_chain, ids, ids->pgid);
	}
	return 0;
}
