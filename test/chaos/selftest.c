/*
 * Controls: each thing the test claims to see is done once on purpose, and has to be
 * seen. A test that cannot fail proves nothing. In a lab of its own, without faults.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include "chaos.h"

static int missed;

/* The differences since the last control are what was ordered, and are taken back. */
static void expect(const char *what, bool seen)
{
	printf("%s - control: %s\n", seen ? "ok" : "NOT OK", what);
	missed += !seen;
	led->ndiff = 0;
	for (int i = 0; i < DIFFS; i++)
		led->diff[i].ready = 0;
}

static bool has_diff(const char *words)
{
	uint32_t n = led->ndiff < DIFFS ? led->ndiff : DIFFS;

	for (uint32_t i = 0; i < n; i++)
		if (led->diff[i].ready && strstr(led->diff[i].text, words))
			return true;
	return false;
}

static bool await_diff(const char *words)
{
	for (int i = 0; i < 500; i++) {
		if (has_diff(words))
			return true;
		nap_ms(10);
	}
	return false;
}

/* One that beats on a node until it is killed. */
static pid_t beater_on(int node, int *ret_slot)
{
	int slot = slot_new();
	pid_t pid = do_rfork(slot, node);

	while (pid == 0) {
		tick();
		nap_ms(4);
	}
	*ret_slot = slot;
	return pid;
}

static void kill_and_wait(int slot, pid_t pid)
{
	led->slot[slot].flags |= SLOT_KILLED;
	kill(pid, SIGKILL);
	do_wait(slot, pid, 0, WANT_SIGNAL(SIGKILL));
}

/* A second copy of a process, with the memory of the first. */
static void twice(void)
{
	int slot;
	pid_t first = beater_on(0, &slot), second;

	nap_ms(50);
	second = fork();
	if (second == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		me = (struct me){.slot = slot, .beat = led->slot[slot].beat};
		for (;;) {
			tick();
			nap_ms(3);
		}
	}
	expect("a process that runs twice", await_diff("runs twice"));
	kill(second, SIGKILL);
	waitpid(second, NULL, 0);
	kill_and_wait(slot, first);
}

/* Its parent believes it dead, or stopped, and it goes on. */
static void after_its_end(void)
{
	int slot;
	pid_t pid = beater_on(1, &slot);

	nap_ms(50);
	led->slot[slot].flags |= SLOT_STOPPED;
	expect("one that runs though it is stopped", await_diff("after its stop was told"));
	led->slot[slot].flags &= ~(uint32_t)SLOT_STOPPED;
	led->slot[slot].state = SLOT_TOLD;
	expect("one that runs though its end was told", await_diff("after its end was told"));
	waitpid(pid, NULL, 0);
}

static void wrong_status(void)
{
	int slot = slot_new();
	pid_t pid = do_fork(slot);

	if (pid == 0) {
		do_move(0);
		leave(7);
	}
	do_wait(slot, pid, 0, WANT_EXIT(8));
	expect("another exit status", has_diff("wait says exit 7, ordered was exit 8"));
	slot = slot_new();
	pid = beater_on(0, &slot);
	kill(pid, SIGKILL);
	do_wait(slot, pid, 0, WANT_SIGNAL(SIGTERM));
	expect("a SIGKILL that nobody ordered", has_diff("wait says killed by 9"));
}

/* With the node's bpslave away nobody can be told: the books are wrong, and it is said. */
static void killed_behind_the_books(void)
{
	const char *argv[] = {"bplab", "exec", "1", led->program, "--signal", "9", NULL, NULL};
	char who[16];
	int slot, n;
	pid_t pid = beater_on(1, &slot);

	nap_ms(50);
	expect("nothing wrong is not reported", book_compare(false, 5000, false) == 0);
	lab_ask("stop-slave", "--kill", 1);
	snprintf(who, sizeof(who), "%d", (int)pid);
	argv[6] = who;
	run_tool(argv);
	n = book_compare(false, 500, false);
	snprintf(who, sizeof(who), "pid %d:", (int)pid);
	expect("a process that was killed behind the books", n > 0 && book_names(who));
	lab_ask("start-slave", NULL, 1);
	led->slot[slot].flags |= SLOT_KILLED;
	do_wait(slot, pid, 0, WANT_SIGNAL(SIGKILL));
	all_up(20000);
	led->ndiff = 0;
}

/* A process of the ledger that is nowhere; one in the node's namespace that nobody knows. */
static void vanished(void)
{
	int slot, n;
	pid_t pid = beater_on(0, &slot);

	kill_and_wait(slot, pid);
	led->slot[slot].state = SLOT_RUNNING;
	led->slot[slot].flags = 0;
	n = book_compare(false, 500, false);
	expect("a process that has vanished", n > 0 && book_names("vanished"));
	led->slot[slot].state = SLOT_TOLD;
	pid = beater_on(0, &slot);
	n = book_compare(true, 500, false);
	expect("a process that was left over", n > 0 && book_names("left on node 0"));
	kill_and_wait(slot, pid);
}

static void wrong_byte(void)
{
	uint64_t rng = 1;

	led->corrupt = 1;
	op_pipe(&rng);
	led->corrupt = 0;
	expect("a byte that was changed on its way", has_diff("byte 0 of"));
}

int selftest(void)
{
	int slot = slot_new();

	led->slot[slot].flags = SLOT_SPARED;
	slot_begin(slot, -1);
	signal(SIGPIPE, SIG_IGN);
	twice();
	after_its_end();
	wrong_status();
	wrong_byte();
	vanished();
	killed_behind_the_books();
	expect("nothing is left, and nothing reported", book_compare(true, 10000, true) == 0);
	printf("%d controls were missed\n", missed);
	return missed ? 1 : 0;
}
