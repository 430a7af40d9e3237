/*
 * Signals of a restore: what they do, and those that wait. Runs in the blob, with every signal
 * blocked.
 */
#include "ghost.h"
#include "lib.h"
#include "restore.h"
#include "sys.h"

#define SIG_BIT(sig) (1ul << ((sig) - 1))
#define IGNORED_BY_DEFAULT                                                                         \
	(SIG_BIT(SIGCONT) | SIG_BIT(SIGCHLD) | SIG_BIT(SIGWINCH) | SIG_BIT(SIGURG))
#define WAITING_MAX 32 /* of a real-time signal there may be any number */

/* Signals of a set that are pending. How many. */
static unsigned take_pending(uint64_t set, siginfo_t si[WAITING_MAX])
{
	const struct timespec now = {0};
	unsigned n = 0;

	memset(si, 0, WAITING_MAX * sizeof *si);
	while (n < WAITING_MAX && sys_sigtimedwait(&set, &si[n], &now) > 0)
		n++;
	return n;
}

static void set_defaults(uint64_t set)
{
	const struct sigaction dfl = {0};

	for (int sig = 1; sig <= SYS_NSIG; sig++)
		if (set & SIG_BIT(sig))
			sys_sigaction(sig, &dfl, NULL);
}

static long set_actions(const struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_SIGNALS];

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_SIGNAL_LEN) {
		struct sigaction act = {
			.sa_handler = (__sighandler_t)get64(p + 8),
			.sa_flags = get64(p + 16),
			.sa_restorer = (__sigrestore_t)get64(p + 24),
		};
		long e;

		memcpy(&act.sa_mask, p + 32, 8);
		e = sys_sigaction((int)get32(p), &act, NULL);
		if (e < 0)
			return blob_err_set(&r->b->err, (int)-e, "the handler of signal %u: %s",
					    get32(p), errno_name(e));
	}
	return 0;
}

/*
 * A fresh clone has no actions; a process that undumps may have, and a ghost has. One that is to
 * ignore drops what is pending (do_sigaction() of kernel/signal.c), and in a ghost that may be
 * what its original was sent while the image came, or, as SIGCHLD, what a child of it has done that
 * is real here. So none is set on the way to another; SIGCHLD has its default in a ghost. And what
 * the original ignores and blocks is kept for it (sig_ignored(), ibid.): that is sent once more.
 */
long rest_signals(struct restore *r)
{
	const struct rest_rec *rec = &r->rec[TAG_SIGNALS];
	uint64_t ignored = IGNORED_BY_DEFAULT, has = r->opt->in_place ? SIG_BIT(SIGCHLD) : 0;
	siginfo_t si[WAITING_MAX];
	unsigned n = 0;
	long e;

	if (r->b->sigs_default)
		return set_actions(r);
	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_SIGNAL_LEN) {
		uint64_t bit = 1ul << ((get32(p) - 1) & 63);

		has |= bit;
		ignored = get64(p + 8) == (uint64_t)SIG_IGN ? ignored | bit : ignored & ~bit;
	}
	if (r->opt->in_place)
		n = take_pending(ignored & r->b->sigmask, si);
	set_defaults(~has);
	rest_drop_timers(r->b);
	e = set_actions(r);
	for (unsigned i = 0; i < n; i++)
		sys_sigqueueinfo((int)sys_getpid(), si[i].si_signo, &si[i]);
	return e;
}

long rest_pending(struct restore *r, int32_t was, int32_t tid)
{
	const struct rest_rec *rec = &r->rec[TAG_PENDING];
	int pid = (int)sys_getpid();

	for (const uint8_t *p = rec->p; p < rec->p + rec->len; p += REC_PENDING_LEN) {
		long e;

		if (get64(p) != (uint64_t)was)
			continue;
		e = was ? sys_tgsigqueueinfo(pid, tid, (int)get32(p + 8), p + 8)
			: sys_sigqueueinfo(pid, (int)get32(p + 8), p + 8);
		if (e < 0)
			return blob_err_set(&r->b->err, (int)-e, "its pending signal %u: %s",
					    get32(p + 8), errno_name(e));
	}
	return 0;
}
