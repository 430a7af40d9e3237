/*
 * Pending signals and timers: out of the kernel for as long as a dump is under
 * way, and back by blob_thaw() if the process goes on here. Were they left in
 * place, the ghost that this process may become would get each of them again.
 * Of a process that is sure to go on (or to die) they are only read; its pending
 * signals come from whoever put the blob there (PTRACE_PEEKSIGINFO).
 * Runs in the blob, with every signal blocked.
 */
#include "dump.h"
#include "lib.h"
#include "object.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"

#define FIRST_PENDING 32u /* room at first */
#define FIRST_REALTIME 32 /* the kernel's SIGRTMIN */

/* One line of an entry of /proc/self/timers. Returns 1 when it was the entry's last. */
static int timer_line(struct image_timer *t, const char *line)
{
	const char *s = line;

	if (str_starts(s, "ID: ")) {
		s += 4;
		*t = (struct image_timer){.id = (int32_t)str_dec(&s)};
	} else if (str_starts(s, "signal: ")) {
		s += 8;
		t->signo = (uint32_t)str_dec(&s);
		s++;
		t->value = str_hex(&s);
	} else if (str_starts(s, "notify: ")) {
		s += 8;
		t->notify = str_starts(s, "none")     ? SIGEV_NONE
			    : str_starts(s, "thread") ? SIGEV_THREAD
						      : SIGEV_SIGNAL;
		while (*s && *s++ != '/')
			;
		if (str_starts(s, "tid.")) {
			s += 4;
			t->notify |= SIGEV_THREAD_ID;
			t->tid = (int32_t)str_dec(&s);
		}
	} else if (str_starts(s, "ClockID: ")) {
		int minus;

		s += 9;
		minus = *s == '-';
		s += minus;
		t->clock = (uint32_t)str_dec(&s);
		if (minus)
			t->clock = -t->clock;
		return 1;
	}
	return 0;
}

/* CPUCLOCK_SCHED of whoever has it: timer_create() of CLOCK_PROCESS_CPUTIME_ID makes it that. */
#define OWN_CPU_TIME ((uint32_t)-6)

static long hold_timers(struct dump *d)
{
	struct blob *b = d->b;
	struct blob_frozen *z = &b->frozen;
	struct image_timer t = {0}, *all = NULL;
	const struct sys_itimerspec off = {0};
	struct sys_itimerspec was;
	struct text text;
	uint64_t mark = arena_mark(b);
	char *line;
	char path[32];
	long r;

	str_format(path, sizeof path, "/proc/%d/timers", d->mem);
	r = text_open(b, &text, path);
	if (r < 0) { /* a kernel without checkpoint support has none to show */
		arena_release(b, mark);
		return r == -ENOMEM ? r : 0;
	}
	r = 0;
	while (r == 0 && (line = text_line(&text))) {
		if (!timer_line(&t, line))
			continue;
		if ((int32_t)t.clock < 0 && t.clock != OWN_CPU_TIME)
			r = refuse(b, REFUSE_TIMER, t.id, "its clock is another task's CPU time");
		else if (z->ntimers == IMAGE_TIMERS_MAX)
			r = refuse(b, REFUSE_LIMIT, (unsigned long)IMAGE_TIMERS_MAX, "timers");
		else if (!all)
			r = (all = arena_raw(b, 8 * sizeof t)) ? 0 : -ENOMEM;
		else if (z->ntimers % 8 == 0)
			r = arena_grow(b, all, (z->ntimers + 8ul) * sizeof t) < 0 ? -ENOMEM : 0;
		if (r < 0 || d->opt->aside || (d->opt->goes_on ? sys_timer_gettime(t.id, &was)
					      : sys_timer_settime(t.id, 0, &off, &was)) < 0)
			continue;
		t.interval_s = (uint64_t)was.interval_s;
		t.interval_ns = (uint64_t)was.interval_ns;
		t.left_s = (uint64_t)was.value_s;
		t.left_ns = (uint64_t)was.value_ns;
		t.overrun = (uint32_t)or_zero(sys_timer_getoverrun(t.id));
		z->timers = (uint64_t)all;
		all[z->ntimers++] = t;
	}
	text_close(&text);
	return r;
}

/*
 * What is pending for this thread alone is taken first: a thread's own queue is emptied before the
 * one that it shares (kernel/signal.c, dequeue_signal()). It is to be this thread's again, since
 * programs stop their threads with such ones, and another of them would take it for its own. Of a
 * real-time signal there may be more in it.
 */
static long hold_signals(struct dump *d)
{
	struct blob *b = d->b;
	struct blob_frozen *z = &b->frozen;
	const uint64_t all = ~0ul;
	const struct timespec now = {0};
	uint64_t own = 0, room = FIRST_PENDING;
	struct blob_pending *p;
	long r;

	if (sys_sigpending(&own) < 0 || !own)
		return 0;
	p = arena_raw(b, room * sizeof *p);
	if (!p)
		return -ENOMEM;
	z->pending = (uint64_t)p;
	for (int sig = FIRST_REALTIME;; own &= ~(1ul << (sig - 1))) {
		if (own && sig >= FIRST_REALTIME) {
			if ((r = dump_read_status(d)) < 0)
				return r;
			own = d->status.sig_pending;
		}
		/* The kernel leaves out what a signal's kind does not have. */
		memset(&p[z->npending], 0, sizeof *p);
		sig = (int)sys_sigtimedwait(own ? &own : &all, p[z->npending].info, &now);
		if (sig <= 0)
			return 0;
		p[z->npending].tid = own ? (uint64_t)d->tid : 0;
		if (++z->npending == BLOB_PENDING_MAX)
			return refuse(b, REFUSE_PENDING, (unsigned long)BLOB_PENDING_MAX - 1);
		if (z->npending == room) {
			room *= 2;
			if (arena_grow(b, p, room * sizeof *p) < 0)
				return -ENOMEM;
		}
	}
}

/*
 * ITIMER_REAL that has fired stands still until its SIGALRM is delivered (dequeue_signal() of the
 * kernel starts it again). That one goes along as a signal, and so would start nothing.
 */
static void rearm(struct sys_itimerval *v)
{
	if (v->value_s || v->value_us)
		return;
	v->value_s = v->interval_s;
	v->value_us = v->interval_us;
}

/* Of another process, which goes on meanwhile. */
long dump_hold_look(struct dump *d)
{
	return hold_timers(d);
}

long dump_hold(struct dump *d)
{
	struct blob_frozen *z = &d->b->frozen;
	long r;

	if (d->opt->goes_on) {
		for (int i = 0; i < 3; i++)
			sys_getitimer(i, (struct sys_itimerval *)z->itimer[i]);
		rearm((struct sys_itimerval *)z->itimer[0]);
		return hold_timers(d);
	}
	z->held = 1;
	/* Timers first: what they have fired already is a pending signal. */
	for (int i = 0; i < 3; i++) {
		const struct sys_itimerval off = {0};

		sys_setitimer(i, &off, (struct sys_itimerval *)z->itimer[i]);
	}
	rearm((struct sys_itimerval *)z->itimer[0]);
	r = hold_timers(d);
	return r < 0 ? r : hold_signals(d);
}

/*
 * What has come since is younger, and of one real-time signal the order counts. A thread's own
 * queue is emptied before the one that it shares with others, so what was held goes there, if no
 * other thread may have to take it.
 */
static void put_back(const struct blob *b, const struct blob_pending *p)
{
	int sig = (int)get32(p->info), pid = (int)sys_getpid();
	int own = !b->nthreads || !(b->sigmask >> (sig - 1) & 1);

	if (p->tid || (sig >= FIRST_REALTIME && own))
		sys_tgsigqueueinfo(pid, (int)sys_gettid(), sig, p->info);
	else
		sys_sigqueueinfo(pid, sig, p->info);
}

void blob_thaw(struct blob *b)
{
	struct blob_frozen *z = &b->frozen;
	const struct image_timer *t = (void *)z->timers;
	const struct blob_pending *p = (void *)z->pending;

	for (uint32_t i = 0; z->held && i < z->npending; i++)
		put_back(b, &p[i]);
	for (uint32_t i = 0; z->held && i < z->ntimers; i++, t++) {
		struct sys_itimerspec v = {
			(long)t->interval_s,
			(long)t->interval_ns,
			(long)t->left_s,
			(long)t->left_ns,
		};

		sys_timer_settime(t->id, 0, &v, NULL);
	}
	for (int i = 0; z->held && i < 3; i++) {
		struct sys_itimerval *v = (void *)z->itimer[i];

		if (v->value_s || v->value_us)
			sys_setitimer(i, v, NULL);
	}
	locks_take_again((void *)z->locks);
	*z = (struct blob_frozen){0};
	arena_reset(b);
}
