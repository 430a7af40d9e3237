/*
 * Proves: a signal that is pending for one thread alone is that thread's alone after a move, and
 * one for the process is the process's; each is delivered once. Then threads that stop each other
 * by signals all the time, as garbage collectors do, and are moved meanwhile: nobody is stopped
 * twice, none is woken by what was for another. Lab of 2 nodes.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "check.h"

#define THREADS 4
#define LAPS 3

static const int ways[] = {0, 1, BPROC_NODE_MASTER};

/* -- pending, all the time */

static sigset_t here_only;

static unsigned long pending_of(const char *key)
{
	char path[PATH_LEN], line[256];
	unsigned long v = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)gettid());
	f = fopen(path, "re");
	MUST(f, "/proc/self/task");
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			v = strtoul(line + strlen(key), NULL, 16);
	fclose(f);
	return v;
}

static unsigned long bit(int sig)
{
	return 1ul << (sig - 1);
}

static void to_me(int sig, int value)
{
	siginfo_t si = {.si_code = SI_QUEUE, .si_value.sival_int = value};

	MUST(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, &si) == 0, "tgsigqueueinfo");
}

static void takes(int sig, int code, int value)
{
	const struct timespec now = {0};
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	CHECK(sigtimedwait(&set, &si, &now) == sig, "signal %d", sig);
	CHECK(si.si_code == code || (code == SI_TKILL && si.si_code == SI_USER), "its code %d",
	      si.si_code);
	CHECK(code != SI_QUEUE || si.si_value.sival_int == value, "its value %d, not %d",
	      si.si_value.sival_int, value);
}

/* SIGUSR1 and a real-time signal wait for this thread and for the process, SIGUSR2 for it only. */
static void waits(int (*move)(int node), int lap)
{
	int rt = SIGRTMIN + 3;
	unsigned long own = bit(SIGUSR1) | bit(SIGUSR2) | bit(rt);
	unsigned long all = bit(SIGUSR1) | bit(SIGTERM) | bit(rt);

	for (int i = 1; i <= 40; i++)
		to_me(rt, i);
	sigqueue(getpid(), rt, (union sigval){.sival_int = 41});
	sigqueue(getpid(), rt, (union sigval){.sival_int = 42});
	syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
	syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGTERM);
	CHECK(move(ways[lap % 3]) == 0, "move, lap %d", lap);
	CHECK(pending_of("SigPnd:") == own, "for the thread %lx, not %lx", pending_of("SigPnd:"),
	      own);
	CHECK(pending_of("ShdPnd:") == all, "for all %lx, not %lx", pending_of("ShdPnd:"), all);
	takes(SIGUSR1, SI_TKILL, 0);
	takes(SIGUSR1, SI_USER, 0);
	takes(SIGUSR2, SI_TKILL, 0);
	takes(SIGTERM, SI_USER, 0);
	for (int i = 1; i <= 42; i++)
		takes(rt, SI_QUEUE, i);
	CHECK(!pending_of("SigPnd:") && !pending_of("ShdPnd:"), "all of it was taken, lap %d", lap);
}

/* Another thread asks for it: they are all stopped and read from outside. */
static sem_t asked, done;
static int node_asked, answer;

static void *asks(void *arg)
{
	for (;;) {
		while (sem_wait(&asked) < 0)
			;
		answer = bproc_move(node_asked);
		sem_post(&done);
	}
	return arg;
}

static int by_another(int node)
{
	node_asked = node;
	sem_post(&asked);
	while (sem_wait(&done) < 0)
		;
	return answer;
}

/* -- threads that stop each other */

static pthread_t thread[THREADS];
static pthread_barrier_t all_there;
static pthread_mutex_t world = PTHREAD_MUTEX_INITIALIZER;
static sem_t heard;
static atomic_long stop, stopped[THREADS], woken[THREADS];
static atomic_int stopper = -1, running;
static __thread int me;
static sigset_t but_wake;

static void on_stop(int sig, siginfo_t *si, void *context)
{
	long mine = stop;
	int e = errno;

	(void)context;
	MUST(si->si_code == SI_TKILL && stopper != me && stopper >= 0,
	     "thread %d is stopped by signal %d, code %d, that was not for it", me, sig,
	     si->si_code);
	MUST(stopped[me] != mine, "thread %d is stopped for the second time", me);
	stopped[me] = mine;
	sem_post(&heard);
	while (woken[me] != mine)
		sigsuspend(&but_wake);
	sem_post(&heard);
	errno = e;
}

static void on_wake(int sig)
{
	(void)sig;
	MUST(stopped[me] == stop && woken[me] != stop && stopper != me,
	     "thread %d is woken by what was not for it", me);
	woken[me] = stop;
}

static void tell_all(int sig)
{
	for (int i = 0; i < THREADS; i++)
		if (i != me)
			MUST(pthread_kill(thread[i], sig) == 0, "pthread_kill");
	for (int i = 0; i < THREADS - 1; i++)
		while (sem_wait(&heard) < 0)
			MUST(errno == EINTR, "sem_wait");
}

static void *runs(void *arg)
{
	me = (int)(long)arg;
	pthread_barrier_wait(&all_there);
	pthread_sigmask(SIG_UNBLOCK, &here_only, NULL);
	for (;;) {
		for (volatile int n = 0; n < 1000 + 500 * me; n++)
			;
		pthread_mutex_lock(&world);
		if (running) {
			stopper = me;
			stop++;
			tell_all(SIGPWR);
			tell_all(SIGXCPU);
			stopper = -1;
		}
		pthread_mutex_unlock(&world);
		if (!running) /* and nobody stops anybody any more */
			return NULL;
	}
}

/* A thread that takes no part in it, and is not stopped, has all of them moved. */
static void *mover(void *arg)
{
	for (int i = 0; i < 9 * LAPS; i++) {
		long was = stop;

		CHECK(bproc_move(ways[i % 3]) == 0, "threads move, %d", i);
		while (stop < was + 100)
			usleep(1000);
	}
	running = 0;
	return arg;
}

static void stop_each_other(void)
{
	struct sigaction a = {.sa_sigaction = on_stop, .sa_flags = SA_RESTART | SA_SIGINFO};
	struct sigaction w = {.sa_handler = on_wake, .sa_flags = SA_RESTART};
	pthread_t t;

	sigfillset(&a.sa_mask);
	sigfillset(&w.sa_mask);
	MUST(sigaction(SIGPWR, &a, NULL) == 0 && sigaction(SIGXCPU, &w, NULL) == 0, "sigaction");
	sigfillset(&but_wake);
	sigdelset(&but_wake, SIGXCPU);
	sem_init(&heard, 0, 0);
	pthread_barrier_init(&all_there, NULL, THREADS);
	running = 1;
	thread[0] = pthread_self();
	for (long i = 1; i < THREADS; i++)
		MUST(pthread_create(&thread[i], NULL, runs, (void *)i) == 0, "thread");
	MUST(pthread_create(&t, NULL, mover, NULL) == 0, "thread");
	runs(NULL);
	for (int i = 1; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	pthread_join(t, NULL);
}

int main(void)
{
	sigset_t all;
	pthread_t t;

	sigemptyset(&here_only);
	sigaddset(&here_only, SIGPWR);
	sigaddset(&here_only, SIGXCPU);

	sigfillset(&all);
	MUST(sigprocmask(SIG_SETMASK, &all, NULL) == 0, "sigprocmask");
	for (int lap = 0; lap < 2 * LAPS; lap++)
		waits(bproc_move, lap);
	sem_init(&asked, 0, 0);
	sem_init(&done, 0, 0);
	MUST(pthread_create(&t, NULL, asks, NULL) == 0, "thread");
	for (int lap = 0; lap < 2 * LAPS; lap++)
		waits(by_another, lap);
	stop_each_other();
	return finish("a signal for one thread");
}
