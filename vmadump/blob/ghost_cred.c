/*
 * Who an arrival is: limits, ids, groups, capabilities, taken on before a byte of
 * its image is read. And who a ghost looks like: the ids of its original, so that
 * its user and only its user can kill it, with the capabilities it needs to clone.
 */
#include <linux/securebits.h>

#include "ghost.h"

#define RLIMITS 16
#ifndef CAP_CHECKPOINT_RESTORE
#define CAP_CHECKPOINT_RESTORE 40
#endif
#define CAP_LAST 63

static long fail(struct blob *b, long r, const char *what)
{
	return blob_err_set(&b->err, (int)-r, "arrival: %s: %s", what, errno_name(r));
}

/* A hard limit that may not be raised here stays what it is: it is not a failure. */
static void set_limit(const struct chan_cred *c, int i)
{
	struct sys_rlimit want = {c->rlim[i][0], c->rlim[i][1]}, have;

	if (sys_prlimit(0, i, &want, NULL) == 0 || sys_prlimit(0, i, NULL, &have) < 0)
		return;
	want.max = MIN(want.max, have.max);
	want.cur = MIN(want.cur, want.max);
	sys_prlimit(0, i, &want, NULL);
}

static int same_groups(const struct chan_cred *c)
{
	unsigned now[CHAN_NGROUPS + 1];
	long n = sys_getgroups(CHAN_NGROUPS + 1, now);

	return n == (long)c->ngroups && memcmp(now, c->group, (size_t)n * sizeof now[0]) == 0;
}

/* With no fix-up by the kernel, so that the capabilities stay until we set them. */
static long set_ids(struct blob *b, const struct chan_cred *c)
{
	long r;

	/* A user namespace without setgroups: its groups are what they are. */
	r = same_groups(c) ? 0 : sys_setgroups((int)c->ngroups, c->group);
	if (r < 0 && c->ngroups > 0)
		return fail(b, r, "supplementary groups");
	r = sys_setresgid(c->gid[0], c->gid[1], c->gid[2]);
	if (r < 0)
		return fail(b, r, "group ids");
	r = sys_setresuid(c->uid[0], c->uid[1], c->uid[2]);
	if (r < 0)
		return fail(b, r, "user ids");
	sys_setfsgid(c->gid[3]);
	sys_setfsuid(c->uid[3]);
	return 0;
}

static void cap_split(struct __user_cap_data_struct d[2], uint64_t eff, uint64_t prm, uint64_t inh)
{
	for (int i = 0; i < 2; i++) {
		d[i].effective = (uint32_t)(eff >> 32 * i);
		d[i].permitted = (uint32_t)(prm >> 32 * i);
		d[i].inheritable = (uint32_t)(inh >> 32 * i);
	}
}

/* A capability that nobody has here cannot be had: the sets are cut to ours. */
static long set_caps(struct blob *b, const struct chan_cred *c, uint64_t extra)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	uint64_t have;
	long r;

	r = sys_capget(&h, d);
	if (r < 0)
		return fail(b, r, "capabilities");
	have = (uint64_t)d[1].permitted << 32 | d[0].permitted;
	for (int i = 0; i <= CAP_LAST; i++) {
		r = c->cap_bnd >> i & 1 ? 0 : sys_prctl(PR_CAPBSET_READ, (unsigned long)i, 0, 0, 0);
		if (r < 0) /* there are no more */
			break;
		if (r > 0)
			sys_prctl(PR_CAPBSET_DROP, (unsigned long)i, 0, 0, 0);
	}
	sys_prctl(PR_SET_SECUREBITS, c->securebits, 0, 0, 0);
	cap_split(d, (c->cap_eff | extra) & have, (c->cap_prm | extra) & have, c->cap_inh & have);
	r = sys_capset(&h, d);
	if (r < 0)
		return fail(b, r, "capabilities");
	sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int i = 0; i <= CAP_LAST; i++)
		if (c->cap_amb & have & 1ul << i)
			sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (unsigned long)i, 0, 0);
	if (c->no_new_privs)
		sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return 0;
}

static void no_fixup(void)
{
	sys_prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0, 0, 0);
}

static long become(struct blob *b, const struct chan_cred *c, uint64_t extra)
{
	long r;

	if (c->ngroups > CHAN_NGROUPS)
		return blob_err_set(&b->err, EINVAL, "arrival: %u groups", c->ngroups);
	for (int i = 0; i < RLIMITS; i++)
		if (i != RLIMIT_NPROC)
			set_limit(c, i);
	sys_setpriority(0, 0, c->nice);
	no_fixup();
	r = set_ids(b, c);
	return r < 0 ? r : set_caps(b, c, extra);
}

long cred_arrival(struct blob *b, const struct chan_cred *c)
{
	set_limit(c, RLIMIT_NPROC);
	return become(b, c, 0);
}

/*
 * All but the one capability to clone under a wanted pid, and without the limit of processes,
 * which home has held it to: what it reads and opens, it reads and opens as its user.
 */
long cred_skeleton(struct blob *b, const struct chan_cred *c)
{
	return become(b, c, 1ul << CAP_CHECKPOINT_RESTORE);
}

long cred_finish(struct blob *b, const struct chan_cred *c)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	uint64_t have;
	long r;

	set_limit(c, RLIMIT_NPROC);
	r = sys_capget(&h, d);
	if (r < 0)
		return fail(b, r, "capabilities");
	have = (uint64_t)d[1].permitted << 32 | d[0].permitted;
	if (!(have & ~c->cap_prm))
		return 0;
	cap_split(d, c->cap_eff & have, c->cap_prm & have, c->cap_inh & have);
	r = sys_capset(&h, d);
	return r < 0 ? fail(b, r, "capabilities") : 0;
}

long cred_ghost(struct blob *b, const uint32_t uid[3], const uint32_t gid[2])
{
	struct sys_rlimit lim;
	long r;

	if (sys_prlimit(0, RLIMIT_NPROC, NULL, &lim) == 0) {
		lim.cur = lim.max;
		sys_prlimit(0, RLIMIT_NPROC, &lim, NULL);
	}
	no_fixup();
	r = sys_setresgid(gid[0], gid[1], gid[1]);
	if (r >= 0)
		r = sys_setresuid(uid[0], uid[1], uid[2]);
	return r < 0 ? blob_err_set(&b->err, (int)-r, "ghost of user %u: %s", uid[0], errno_name(r))
		     : 0;
}

/* Effective: those that count. What is lowered stays permitted, and nothing else changes. */
long cred_effective(uint64_t want, uint64_t *ret_had)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];
	long r = sys_capget(&h, d);

	if (r < 0)
		return r;
	*ret_had = (uint64_t)d[1].effective << 32 | d[0].effective;
	d[0].effective = (uint32_t)want;
	d[1].effective = (uint32_t)(want >> 32);
	return sys_capset(&h, d);
}

/* CAP_SYS_ADMIN would do as well: who has it alone only keeps what he need not. */
int cred_may_number(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	return sys_capget(&h, d) == 0 &&
	       d[CAP_CHECKPOINT_RESTORE / 32].effective >> CAP_CHECKPOINT_RESTORE % 32 & 1;
}
