/*
 * One play in one arrangement. Runs in the scene's conductor, T: leader of a session
 * of its own, at home, the parent of P. What the play asked at home is asked again
 * here; what is on its way (a signal, a child's end) is waited for by asking again
 * until the answer is the same, so that nothing depends on how fast the cluster is.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arrange.h"

#define AGAIN_US 300
#define AGAIN_MAX_US 5000
#define SETTLE_MS 2 /* at home, with nothing on its way but the scheduler */

int stage_patience_s = 25; /* for what does not come at all */
static struct scene *scene;
static bool busy[ROLE_COUNT];
static bool pinged[ROLE_COUNT]; /* settle() asked it, and it was stopped before it answered */

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void nap_us(long us)
{
	nanosleep(&(struct timespec){.tv_sec = 0, .tv_nsec = us * 1000}, NULL);
}

/* -- what home sees */

static char state_of(pid_t pid)
{
	char path[32], text[512], *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = pid > 0 ? fopen(path, "r") : NULL;
	if (!f)
		return '-';
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	end = strrchr(text, ')');
	return end && end[1] ? end[2] : '-';
}

/* -- orders */

/* What settle() has asked is answered as soon as it goes on; true: nothing is owed any more. */
static bool has_caught_up(int role)
{
	struct member *m = &scene->member[role];

	if (pinged[role] && m->answered == m->asked)
		pinged[role] = busy[role] = false;
	return !pinged[role];
}

static void tell(int role, const char *order)
{
	struct member *m = &scene->member[role];
	double end = now_s() + stage_patience_s;

	while (!has_caught_up(role) && now_s() < end)
		nap_us(AGAIN_US);
	snprintf(m->order, sizeof(m->order), "%s", order);
	m->asked++;
	busy[role] = true;
	syscall(SYS_futex, &m->asked, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void hear(int role, char *answer)
{
	struct member *m = &scene->member[role];
	double end = now_s() + stage_patience_s;
	bool is_ping = strcmp(m->order, "getready") == 0;
	struct timespec t = {.tv_nsec = is_ping ? 2000000 : 100000000};

	while (m->answered != m->asked) {
		/* Killed just now. Elsewhere home may not have heard of it yet. */
		if (actor_at_home && strchr("-XZ", state_of(m->pid))) {
			snprintf(answer, TEXT_MAX, "it has ended");
			return;
		}
		pinged[role] = actor_at_home && is_ping && state_of(m->pid) == 'T';
		if (pinged[role])
			return;
		if (now_s() > end) {
			snprintf(answer, TEXT_MAX, "no answer in %d s", stage_patience_s);
			return;
		}
		syscall(SYS_futex, &m->answered, FUTEX_WAIT, m->asked - 1, &t, NULL, 0);
	}
	memcpy(answer, m->answer, TEXT_MAX);
	busy[role] = false;
}

static void ask(int role, const char *order, char *answer)
{
	if (role == ROLE_T) {
		actor_do(scene, role, order, answer);
		return;
	}
	tell(role, order);
	hear(role, answer);
}

static void put_state(int role, char *answer)
{
	char c = state_of(scene->member[role].pid);

	snprintf(answer, TEXT_MAX, "%s",
		 c == '-' || c == 'X'	? "gone"
		 : c == 'Z'		? "zombie"
		 : c == 'T' || c == 't' ? "stopped"
					: "runs");
}

static void put_over(int role, char *answer)
{
	char c = state_of(scene->member[role].pid);

	snprintf(answer, TEXT_MAX, "%s", strchr("-XZ", c) ? "over" : "runs");
}

/* What of its log has not been read yet. */
static uint32_t put_log(int role, char *answer)
{
	struct member *m = &scene->member[role];
	uint32_t n = m->nlog;
	size_t at = 0;

	answer[0] = '\0';
	for (uint32_t i = m->log_read; i < n && at < TEXT_MAX; i++) {
		const struct logged *l = &m->log[i];

		at += (size_t)snprintf(answer + at, TEXT_MAX - at, "%s%s from %s",
				       i > m->log_read ? "; " : "", signal_name(l->sig),
				       expect_by_kernel(l) ? "the kernel" : role_name(scene, l->pid));
		if (at < TEXT_MAX && l->sig == SIGCHLD)
			at += (size_t)snprintf(answer + at, TEXT_MAX - at, " code %d status %d",
					       l->code, l->status);
		else if (at < TEXT_MAX && !expect_by_kernel(l))
			at += (size_t)snprintf(answer + at, TEXT_MAX - at, " code %d", l->code);
	}
	if (!answer[0])
		snprintf(answer, TEXT_MAX, "no signal");
	return n;
}

/* -- a step */

struct step {
	int role;
	char verb[16], order[64];
};

static void do_step(const struct step *t, char *answer)
{
	if (strcmp(t->verb, "log") == 0)
		put_log(t->role, answer);
	else if (strcmp(t->verb, "state") == 0)
		put_state(t->role, answer);
	else if (strcmp(t->verb, "over") == 0)
		put_over(t->role, answer);
	else if (strcmp(t->verb, "end") == 0)
		hear(t->role, answer);
	else if (strcmp(t->verb, "begin") == 0 || strcmp(t->verb, "exit") == 0 ||
		 strcmp(t->verb, "die") == 0) {
		tell(t->role, t->order);
		snprintf(answer, TEXT_MAX, "ok");
	} else {
		ask(t->role, t->order, answer);
	}
}

/* Asked again, it may be answered otherwise: then what is on its way has come. */
static bool may_change(const struct step *t, const char *got, const char *want)
{
	static const char *const looks[] = {"log", "state", "over", "ids", "getpgid", "getsid"};

	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
		if (strcmp(t->verb, looks[i]) == 0)
			return true;
	if (strncmp(t->verb, "wait", 4) == 0)
		return strcmp(got, "none") == 0;
	/* An end, or a birth, that home has not heard of yet. */
	return strcmp(t->verb, "kill") == 0 &&
	       ((strcmp(want, "ESRCH") == 0 && strcmp(got, "ok") == 0) ||
		(strcmp(want, "ok") == 0 && strcmp(got, "ESRCH") == 0));
}

/*
 * At home: everybody who can answer has, twice, and no signal has come in between. Who is busy
 * sleeps, or has ended or stopped: else it is still on its way to that.
 */
static void settle(void)
{
	uint32_t before = UINT32_MAX, n;
	char answer[TEXT_MAX];

	for (;;) {
		bool on_its_way = false;

		n = 0;
		for (int i = ROLE_P; i < ROLE_COUNT; i++) {
			char c = state_of(scene->member[i].pid);

			if ((c == 'S' || c == 'R') && !has_caught_up(i))
				on_its_way = true;
			else if ((c == 'S' || c == 'R') && !busy[i])
				ask(i, "getready", answer);
			else if (c == 'R' || c == 'D')
				on_its_way = true;
			n += scene->member[i].nlog;
		}
		if (n == before && !on_its_way)
			return;
		before = n;
		nap_us(SETTLE_MS * 1000);
	}
}

/* The next step, with its places; false: there are no more. */
static bool next_step(const char **at, const struct arrangement *a, struct step *ret)
{
	char text[64], *end;
	size_t n = 0;
	const char *p = *at;

	while (*p == ' ' || *p == ';')
		p++;
	if (!*p)
		return false;
	ret->role = role_of((char[]){*p, '\0'});
	for (p += 2; *p && *p != ';'; p++) {
		if (*p == '$')
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%d",
					      a->place[*++p - '1']);
		else
			text[n++] = *p;
	}
	while (n > 0 && text[n - 1] == ' ')
		n--;
	text[n] = '\0';
	snprintf(ret->verb, sizeof(ret->verb), "%.*s", (int)strcspn(text, " "), text);
	end = strchr(text, ' ');
	if (strcmp(ret->verb, "begin") == 0 && end)
		memmove(text, end + 1, strlen(end));
	if (strcmp(ret->verb, "die") == 0 && end) {
		char sig[16];

		snprintf(sig, sizeof(sig), "%s", end + 1);
		snprintf(text, sizeof(text), "kill %c %s", ROLE_NAMES[ret->role], sig);
	}
	memcpy(ret->order, text, sizeof(text));
	*at = p;
	return true;
}

/* -- before and after the play */

static bool must(struct outcome *out, int role, const char *fmt, int a, int b)
{
	char order[64], answer[TEXT_MAX];

	snprintf(order, sizeof(order), fmt, a, b);
	ask(role, order, answer);
	if (strcmp(answer, "ok") == 0) {
		expect_note(role, order);
		return true;
	}
	snprintf(out->step, TEXT_MAX, "before the play: %c %s", ROLE_NAMES[role], order);
	snprintf(out->want, TEXT_MAX, "ok");
	snprintf(out->got, TEXT_MAX, "%s", answer);
	return false;
}

static bool take_places(const struct script *p, const struct arrangement *a, struct outcome *out)
{
	bool far = a->birth == BORN_FAR;

	if (!must(out, ROLE_T, "fork P", 0, 0) || !must(out, ROLE_P, "setpgid P P", 0, 0))
		return false;
	if (a->user && !must(out, ROLE_P, "user %d", a->user, 0))
		return false;
	if (a->birth != BORN_HOME && !must(out, ROLE_P, "move %d", a->parent, 0))
		return false;
	for (int i = 0; i < p->children; i++) {
		int role = ROLE_A + i;

		if (!must(out, ROLE_P, far ? "rfork %c %d" : "fork %c", ROLE_NAMES[role],
			  a->child[i]))
			return false;
		if (!far && !must(out, role, "move %d", a->child[i], 0))
			return false;
		/* Its handlers are its parent's until it has said something. */
		if (far && !must(out, role, "getready", 0, 0))
			return false;
	}
	if (a->birth == BORN_HOME && !must(out, ROLE_P, "move %d", a->parent, 0))
		return false;
	/* Home hears of those that are born on a node a moment later. */
	for (int i = 0; i < p->children; i++) {
		double end = now_s() + stage_patience_s;

		while (kill(scene->member[ROLE_A + i].pid, 0) < 0 && now_s() < end)
			nap_us(AGAIN_US);
	}
	return true;
}

static bool is_ours(pid_t pid)
{
	pid_t sid = pid > 1 ? getsid(pid) : -1;

	return sid > 0 && (sid == getpid() || sid == pid);
}

/* All of it ends; nothing of it may be left at home. */
static void go_home(struct outcome *out)
{
	double end = now_s() + stage_patience_s;
	bool left = true;

	for (int i = ROLE_COUNT - 1; i >= ROLE_P; i--)
		if (is_ours(scene->member[i].pid))
			kill(scene->member[i].pid, SIGKILL);
	while (left) {
		left = false;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		for (int i = ROLE_P; i < ROLE_COUNT; i++) {
			if (!is_ours(scene->member[i].pid))
				continue;
			left = true;
			if (now_s() < end || out->failures)
				continue;
			out->failures = 1;
			snprintf(out->step, TEXT_MAX, "after the play: %c state", ROLE_NAMES[i]);
			snprintf(out->want, TEXT_MAX, "gone");
			put_state(i, out->got);
		}
		if (now_s() > end)
			return;
		if (left)
			nap_us(AGAIN_MAX_US);
	}
}

/* Is what came instead one of the things that bproc(7) lists? */
static bool is_listed(const struct step *t, const char *want, const char *got)
{
	char ask_both[2][64], answer[TEXT_MAX];

	if (!expect_other_child(t->role, t->order, want, got, ask_both))
		return false;
	ask(t->role, ask_both[0], answer);
	if (strcmp(answer, want) != 0)
		return false;
	ask(t->role, ask_both[1], answer);
	return strcmp(answer, got) == 0;
}

/* False: it is not as at home. */
static bool compare(const struct step *t, const char *want, char *got)
{
	double end = now_s() + stage_patience_s;
	long us = AGAIN_US;

	do_step(t, got);
	while (strcmp(got, want) != 0 && may_change(t, got, want) && now_s() < end) {
		nap_us(us);
		us = us * 2 > AGAIN_MAX_US ? AGAIN_MAX_US : us * 2;
		do_step(t, got);
	}
	return strcmp(got, want) == 0 || is_listed(t, want, got);
}

void stage_run(const char *path, const struct script *p, const struct arrangement *a,
	       const struct trace *want, struct trace *ret_trace, struct outcome *out)
{
	const char *at = p->steps;
	char got[TEXT_MAX], wanted[TEXT_MAX];
	struct step t;
	bool same = true;

	setsid();
	expect_start();
	actor_at_home = want == NULL;
	scene = scene_map(path);
	scene->member[ROLE_T].pid = getpid();
	actor_listen(scene, ROLE_T);
	actor_stage(path);
	if (!take_places(p, a, out))
		out->failures++;
	for (int i = 0; !out->failures && i < STEPS_MAX && next_step(&at, a, &t); i++) {
		if (want) {
			expect_answer(t.role, t.verb, want->text[i], wanted);
			same = compare(&t, wanted, got);
			out->checks++;
		} else {
			settle();
			do_step(&t, ret_trace->text[ret_trace->n++]);
			settle();
		}
		if (want && !same) {
			out->failures++;
			snprintf(out->step, TEXT_MAX, "step %d: %c %s", i + 1, ROLE_NAMES[t.role],
				 t.order);
			snprintf(out->want, TEXT_MAX, "%s", wanted);
			snprintf(out->got, TEXT_MAX, "%s", got);
			for (int k = 0; k < ROLE_COUNT; k++) {
				out->pid[k] = scene->member[k].pid;
				out->state[k] = state_of(out->pid[k]);
			}
		}
		expect_note(t.role, t.order);
		if (strcmp(t.verb, "log") == 0)
			scene->member[t.role].log_read = scene->member[t.role].nlog;
	}
	go_home(out);
}
