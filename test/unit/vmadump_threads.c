/*
 * A program with threads that knows nothing of vmadump: each of them works at something
 * else and looks all the time whether it is still what it was. Writes a line a round
 * to descriptor 1, at last "threads ok".
 *
 *   vmadump_threads ROUNDS
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmadump_must.h"

#define WORKERS 6

static long rounds;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static long turn, waiters;
static pthread_barrier_t ready;

struct worker {
	const char *name;
	void (*begin)(struct worker *w);
	void (*step)(struct worker *w, long round);
	void (*end)(struct worker *w);
	pthread_t thread;
	pid_t tid;
	char stack[16384] __attribute__((aligned(16)));
	volatile sig_atomic_t ticks;
	timer_t timer;
	double sum;
};

static __thread struct worker *me;
static __thread int mine;

static void sleep_ms(long ms)
{
	struct timespec ts = {.tv_nsec = ms * 1000000};

	/* No signal has a handler here: nothing may interrupt it. */
	MUST(nanosleep(&ts, NULL) == 0);
}

static void step_sleep(struct worker *w, long round)
{
	(void)w;
	(void)round;
	sleep_ms(3);
}

static void step_poll(struct worker *w, long round)
{
	(void)w;
	(void)round;
	MUST(poll(NULL, 0, 3) == 0);
}

/* Vector registers are in use nearly all the time. */
static void step_compute(struct worker *w, long round)
{
	float v[64];
	double sum = 0;

	for (int i = 0; i < 64; i++)
		v[i] = (float)(i + round % 7);
	for (int k = 0; k < 3000; k++)
		for (int i = 0; i < 64; i++)
			v[i] = v[i] * 0.999f + 1.0f;
	for (int i = 0; i < 64; i++)
		sum += v[i];
	w->sum += sum;
}

static void end_compute(struct worker *w)
{
	struct worker again = {0};

	for (long r = 0; r < rounds; r++)
		step_compute(&again, r);
	MUST(again.sum == w->sum);
}

/* A timer of its own, whose handler runs in this thread and on its own stack. */
static void on_tick(int sig)
{
	char here;

	(void)sig;
	if (!me || &here < me->stack || &here >= me->stack + sizeof me->stack)
		abort();
	me->ticks++;
}

static void begin_timer(struct worker *w)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 1};
	struct itimerspec its = {{0, 2000000}, {0, 2000000}};

	ev._sigev_un._tid = gettid();
	MUST(timer_create(CLOCK_MONOTONIC, &ev, &w->timer) == 0);
	MUST(timer_settime(w->timer, 0, &its, NULL) == 0);
}

static void step_timer(struct worker *w, long round)
{
	long before = w->ticks;

	(void)round;
	for (int i = 0; i < 2000 && w->ticks == before; i++)
		poll(NULL, 0, 1); /* EINTR is what it waits for */
	MUST(w->ticks > before);
}

static void end_timer(struct worker *w)
{
	MUST(timer_delete(w->timer) == 0);
}

/* A signal that waits for this thread alone, all the time. */
static void begin_pending(struct worker *w)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	MUST(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	MUST(syscall(SYS_tgkill, getpid(), w->tid, SIGUSR2) == 0);
}

static void end_pending(struct worker *w)
{
	siginfo_t info;
	sigset_t set;

	(void)w;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	/* libc says SI_USER for what the kernel calls SI_TKILL. */
	MUST(sigwaitinfo(&set, &info) == SIGUSR2 &&
	     (info.si_code == SI_TKILL || info.si_code == SI_USER) && info.si_pid == getpid());
}

/* Waits for the main thread at each turn. */
static void step_turn(struct worker *w, long round)
{
	(void)w;
	pthread_mutex_lock(&lock);
	while (turn <= round)
		pthread_cond_wait(&turned, &lock);
	waiters++;
	pthread_mutex_unlock(&lock);
}

static void nothing(struct worker *w)
{
	(void)w;
}

static struct worker worker[WORKERS] = {
	{.name = "sleeper", .begin = nothing, .step = step_sleep, .end = nothing},
	{.name = "poller", .begin = nothing, .step = step_poll, .end = nothing},
	{.name = "computer", .begin = nothing, .step = step_compute, .end = end_compute},
	{.name = "timer", .begin = begin_timer, .step = step_timer, .end = end_timer},
	{.name = "pending", .begin = begin_pending, .step = step_sleep, .end = end_pending},
	{.name = "turner", .begin = nothing, .step = step_turn, .end = nothing},
};

static void still_me(struct worker *w)
{
	stack_t ss;
	sigset_t set;
	char name[16];

	MUST(me == w && mine == (int)(w - worker) && gettid() == w->tid);
	MUST(syscall(SYS_gettid) == w->tid && pthread_equal(pthread_self(), w->thread));
	MUST(prctl(PR_GET_NAME, name) == 0 && strcmp(name, w->name) == 0);
	MUST(sigaltstack(NULL, &ss) == 0 && ss.ss_sp == w->stack && ss.ss_size == sizeof w->stack);
	MUST(pthread_sigmask(SIG_SETMASK, NULL, &set) == 0);
	MUST(sigismember(&set, SIGUSR1) == (mine % 2) &&
	     sigismember(&set, SIGUSR2) == (strcmp(name, "pending") == 0));
	MUST(sched_getcpu() >= 0);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	stack_t ss = {.ss_sp = w->stack, .ss_size = sizeof w->stack};
	sigset_t set;

	me = w;
	mine = (int)(w - worker);
	w->tid = gettid();
	w->thread = pthread_self();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (mine % 2)
		MUST(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	MUST(prctl(PR_SET_NAME, w->name) == 0 && sigaltstack(&ss, NULL) == 0);
	w->begin(w);
	pthread_barrier_wait(&ready);
	for (long r = 0; r < rounds; r++) {
		w->step(w, r);
		still_me(w);
	}
	w->end(w);
	return NULL;
}

/* Owner died while it held it: the kernel walks the robust list of the thread. */
static void *die_holding(void *mutex)
{
	struct timespec long_enough = {.tv_nsec = 300000000};

	pthread_mutex_lock(mutex);
	pthread_barrier_wait(&ready);
	nanosleep(&long_enough, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_tick, .sa_flags = SA_ONSTACK | SA_RESTART};
	pthread_mutexattr_t attr;
	pthread_mutex_t robust;
	pthread_t holder;
	cpu_set_t cpus;

	MUST(argc == 2);
	rounds = atol(argv[1]);
	MUST(sigaction(SIGRTMIN + 1, &act, NULL) == 0);
	MUST(pthread_mutexattr_init(&attr) == 0 &&
	     pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0 &&
	     pthread_mutex_init(&robust, &attr) == 0);
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	pthread_barrier_init(&ready, NULL, WORKERS + 2);
	for (int i = 0; i < WORKERS; i++)
		MUST(pthread_create(&worker[i].thread, NULL, work, &worker[i]) == 0);
	MUST(pthread_create(&holder, NULL, die_holding, &robust) == 0);
	MUST(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
	pthread_barrier_wait(&ready);
	for (long r = 0; r < rounds; r++) {
		sleep_ms(2);
		pthread_mutex_lock(&lock);
		turn++;
		pthread_cond_broadcast(&turned);
		pthread_mutex_unlock(&lock);
		MUST(dprintf(1, "%ld\n", r) > 0);
		MUST(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) == 1);
	}
	MUST(pthread_mutex_lock(&robust) == EOWNERDEAD);
	MUST(pthread_join(holder, NULL) == 0);
	for (int i = 0; i < WORKERS; i++)
		MUST(pthread_join(worker[i].thread, NULL) == 0);
	MUST(waiters == rounds);
	dprintf(1, "threads ok\n");
	return 0;
}
