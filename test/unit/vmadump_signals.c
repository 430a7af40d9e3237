/* The victim's signals and timers. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "vmadump_victim.h"

#define ALT_LEN 65536
#define KEPT_ID 2 /* of three timers the one whose id must come back */

static volatile sig_atomic_t usr1_on_alt, alarms, ticks;
static char alt[ALT_LEN];
static timer_t timer[3];

static void on_usr1(int sig, siginfo_t *info, void *uc)
{
	char here;

	(void)uc;
	if (sig == SIGUSR1 && info->si_code == SI_TKILL && &here > alt && &here < alt + ALT_LEN)
		usr1_on_alt++;
}

static void on_alarm(int sig)
{
	if (sig == SIGALRM)
		alarms++;
	else
		ticks++;
}

static void handlers_set(void)
{
	struct sigaction a = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	stack_t ss = {.ss_sp = alt, .ss_size = ALT_LEN};

	sigaddset(&a.sa_mask, SIGUSR2);
	MUST(sigaltstack(&ss, NULL) == 0);
	MUST(sigaction(SIGUSR1, &a, NULL) == 0);
	MUST(sigaction(SIGTRAP, &a, NULL) == 0);
	MUST(signal(SIGHUP, SIG_IGN) != SIG_ERR);
}

static void handlers_look(int after)
{
	struct sigaction a;
	stack_t ss;
	int was = usr1_on_alt;

	(void)after;
	MUST(sigaltstack(NULL, &ss) == 0 && ss.ss_sp == alt && ss.ss_size == ALT_LEN);
	MUST(sigaction(SIGUSR1, NULL, &a) == 0 && a.sa_sigaction == on_usr1);
	MUST(a.sa_flags & SA_ONSTACK && sigismember(&a.sa_mask, SIGUSR2));
	MUST(sigaction(SIGTRAP, NULL, &a) == 0 && a.sa_sigaction == on_usr1);
	MUST(sigaction(SIGHUP, NULL, &a) == 0 && a.sa_handler == SIG_IGN);
	MUST(sigaction(SIGTERM, NULL, &a) == 0 && a.sa_handler == SIG_DFL);
	MUST(raise(SIGUSR1) == 0);
	MUST(usr1_on_alt == was + 1);
}

static void pending_set(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTRAP);
	sigaddset(&set, SIGRTMIN + 1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	kill(getpid(), SIGUSR2);
	kill(getpid(), SIGTRAP);
	for (int i = 1; i <= 3; i++)
		MUST(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}) == 0);
}

static void pending_look(int after)
{
	sigset_t set, now;
	siginfo_t info;
	const struct timespec no_wait = {0, 0};

	(void)after;
	MUST(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
	MUST(sigismember(&now, SIGUSR2) && sigismember(&now, SIGRTMIN + 1));
	MUST(sigismember(&now, SIGTRAP));
	MUST(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGTERM));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	MUST(sigtimedwait(&set, &info, &no_wait) == SIGUSR2 && info.si_code == SI_USER);
	MUST(sigtimedwait(&set, &info, &no_wait) < 0 && errno == EAGAIN);
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	MUST(sigtimedwait(&set, &info, &no_wait) == SIGTRAP && info.si_code == SI_USER);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	for (int i = 1; i <= 3; i++) {
		MUST(sigtimedwait(&set, &info, &no_wait) == SIGRTMIN + 1);
		MUST(info.si_code == SI_QUEUE && info.si_value.sival_int == i);
	}
	MUST(sigtimedwait(&set, &info, &no_wait) < 0 && errno == EAGAIN);
}

static void timers_set(void)
{
	struct itimerval it = {{0, 20000}, {0, 500000}};
	struct itimerspec ts = {{0, 20000000}, {0, 500000000}};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGVTALRM};

	MUST(signal(SIGALRM, on_alarm) != SIG_ERR && signal(SIGVTALRM, on_alarm) != SIG_ERR);
	for (int i = 0; i < 3; i++)
		MUST(timer_create(CLOCK_MONOTONIC, &ev, &timer[i]) == 0);
	/* Ids with a gap. */
	MUST(timer_delete(timer[0]) == 0);
	MUST(timer_settime(timer[KEPT_ID], 0, &ts, NULL) == 0);
	MUST(setitimer(ITIMER_REAL, &it, NULL) == 0);
}

static void timers_look(int after)
{
	struct itimerspec ts;
	struct itimerval it;

	(void)after;
	MUST(timer_gettime(timer[KEPT_ID], &ts) == 0 && ts.it_interval.tv_nsec == 20000000);
	MUST(timer_gettime(timer[1], &ts) == 0 && ts.it_value.tv_sec == 0 &&
	     ts.it_value.tv_nsec == 0);
	MUST(getitimer(ITIMER_REAL, &it) == 0 && it.it_interval.tv_usec == 20000);
	for (int i = 0; i < 400 && (alarms < 2 || ticks < 2); i++)
		nanosleep(&(struct timespec){0, 10000000}, NULL);
	MUST(alarms >= 2 && ticks >= 2);
	/* It is not to disturb what follows. */
	memset(&it, 0, sizeof it);
	MUST(setitimer(ITIMER_REAL, &it, NULL) == 0 && timer_delete(timer[KEPT_ID]) == 0);
}

static void rseq_set(void)
{
}

/* The kernel writes the CPU here as long as the registration lives. */
static void rseq_look(int after)
{
	struct rseq *area;
	cpu_set_t one;
	int cpu = sched_getcpu();

	(void)after;
	if (!__rseq_size)
		return;
	area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	MUST(sched_setaffinity(0, sizeof one, &one) == 0);
	MUST((int)*(volatile uint32_t *)&area->cpu_id == cpu);
	*(volatile uint32_t *)&area->cpu_id = 12345;
	for (int i = 0; i < 100 && *(volatile uint32_t *)&area->cpu_id == 12345; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	MUST((int)*(volatile uint32_t *)&area->cpu_id == cpu);
}

static void robust_set(void)
{
}

static void robust_look(int after)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	void *head = NULL;
	size_t len = 0;

	(void)after;
	MUST(syscall(SYS_get_robust_list, 0, &head, &len) == 0 && head && len == 24);
	/* libc's idea of its own thread is the kernel's. */
	MUST(pthread_mutex_lock(&m) == 0 && m.__data.__owner == gettid());
	MUST(pthread_mutex_unlock(&m) == 0);
}

const struct part signal_parts[] = {
	{"handlers", handlers_set, handlers_look}, {"pending", pending_set, pending_look},
	{"timers", timers_set, timers_look},	   {"rseq", rseq_set, rseq_look},
	{"robust", robust_set, robust_look},	   {NULL, NULL, NULL},
};
