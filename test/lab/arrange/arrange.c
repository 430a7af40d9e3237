/*
 * Proves: a family of processes cannot tell where its members are. Every play of
 * script.c is acted with all at home, which says what the answers are, and then with
 * the parent and each of its children on each of the four machines (children are
 * alike, so their places are taken without regard to order), born at home, born
 * where the parent is, or by bproc_rfork(). Lab of 3 nodes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arrange.h"

#define JOBS_MAX 64
#define SHOWN_MAX 12 /* failures of one play that are printed */

struct job {
	pid_t pid;
	struct arrangement a;
	char path[128];
};
static struct job jobs[JOBS_MAX];
static struct outcome *outcomes;
static int njobs = 12, nrunning;
static long arrangements, checks, failures, shown;
static const char *dir;

static const char *place_name(int node)
{
	static const char *const name[] = {"home", "n0", "n1", "n2"};

	return name[node + 1];
}

static void print_arrangement(const struct script *p, const struct arrangement *a)
{
	static const char *const birth[] = {"born at home", "born there", "rforked"};

	printf("%s, %s: P@%s", p->name, birth[a->birth], place_name(a->parent));
	for (int i = 0; i < p->children; i++)
		printf(" %c@%s", ROLE_NAMES[ROLE_A + i], place_name(a->child[i]));
	for (int i = 0; i < p->places; i++)
		printf(" $%d=%s", i + 1, place_name(a->place[i]));
}

static void make_scene(char path[128], int i)
{
	int fd;

	snprintf(path, 128, "%s/scene.%d", dir, i);
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(struct scene)) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static void count(const struct script *p, int i)
{
	const struct outcome *o = &outcomes[i];

	arrangements++;
	checks += o->checks;
	if (!o->failures)
		return;
	failures++;
	if (shown++ >= SHOWN_MAX)
		return;
	printf("NOT OK - ");
	print_arrangement(p, &jobs[i].a);
	printf("; %s: at home '%s', here '%s'; pids", o->step, o->want, o->got);
	for (int k = 0; k < ROLE_COUNT; k++)
		printf(" %d", (int)o->pid[k]);
	printf("\n");
	fflush(stdout);
}

static void reap_one(const struct script *p)
{
	int status, i;
	pid_t pid = wait(&status);

	for (i = 0; i < njobs && jobs[i].pid != pid; i++)
		;
	if (pid <= 0 || i == njobs)
		return;
	if (!WIFEXITED(status)) {
		outcomes[i].failures = 1;
		snprintf(outcomes[i].step, TEXT_MAX, "the conductor has ended: %#x", status);
	}
	count(p, i);
	jobs[i].pid = 0;
	nrunning--;
}

static void start(const struct script *p, const struct arrangement *a, const struct trace *want)
{
	int i = 0;

	while (nrunning == njobs)
		reap_one(p);
	while (jobs[i].pid)
		i++;
	jobs[i].a = *a;
	make_scene(jobs[i].path, i);
	memset(&outcomes[i], 0, sizeof(outcomes[i]));
	fflush(stdout);
	jobs[i].pid = fork();
	if (jobs[i].pid == 0) {
		stage_run(jobs[i].path, p, a, want, NULL, &outcomes[i]);
		_exit(0);
	}
	nrunning++;
}

/* What home says, twice the same. */
static const struct trace *reference(const struct script *p)
{
	static struct trace *t;
	const struct arrangement none = {.parent = HOME, .child = {HOME, HOME, HOME}};

	if (!t)
		t = mmap(NULL, 2 * sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	for (int i = 0; i < 2; i++) {
		char path[128];
		pid_t pid;
		int status;

		make_scene(path, JOBS_MAX);
		memset(&t[i], 0, sizeof(*t));
		memset(&outcomes[0], 0, sizeof(outcomes[0]));
		pid = fork();
		if (pid == 0) {
			stage_run(path, p, &none, NULL, &t[i], &outcomes[0]);
			_exit(0);
		}
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (outcomes[0].failures)
			printf("%s, at home: %s: '%s'\n", p->name, outcomes[0].step,
			       outcomes[0].got);
	}
	for (int i = 0; i < t[0].n; i++) {
		if (strcmp(t[0].text[i], t[1].text[i]) == 0)
			continue;
		printf("NOT OK - %s, step %d: at home '%s', then '%s'\n", p->name, i + 1,
		       t[0].text[i], t[1].text[i]);
		failures++;
	}
	return &t[0];
}

/* Of a birth that comes to the same as another one: only once. */
static bool is_new(const struct script *p, const struct arrangement *a)
{
	bool apart = false;

	for (int i = 0; i < p->children; i++)
		apart |= a->child[i] != a->parent;
	return a->birth == BORN_HOME || (a->birth == BORN_THERE && a->parent != HOME) ||
	       (a->birth == BORN_FAR && apart);
}

static void each_child(const struct script *p, struct arrangement *a, int i,
		       const struct trace *want)
{
	if (i < p->children) {
		for (a->child[i] = i ? a->child[i - 1] : HOME; a->child[i] < NODES; a->child[i]++)
			each_child(p, a, i + 1, want);
		return;
	}
	for (int b = 0; b < BIRTHS; b++) {
		a->birth = (enum birth)b;
		if (is_new(p, a))
			start(p, a, want);
	}
}

static void each_place(const struct script *p, struct arrangement *a, int i,
		       const struct trace *want)
{
	if (i == p->places) {
		each_child(p, a, 0, want);
		return;
	}
	for (a->place[i] = HOME; a->place[i] < NODES; a->place[i]++)
		each_place(p, a, i + 1, want);
}

static void play(const struct script *p)
{
	const struct trace *want = reference(p);
	struct arrangement a = {.birth = BORN_HOME};
	long before = arrangements, failed = failures;

	shown = 0;
	for (a.parent = HOME; a.parent < NODES; a.parent++)
		each_place(p, &a, 0, want);
	while (nrunning > 0)
		reap_one(p);
	printf("%-20s %5ld arrangements, %ld not as at home\n", p->name, arrangements - before,
	       failures - failed);
	fflush(stdout);
}

static void show(const struct script *p)
{
	const struct trace *t = reference(p);
	const char *s = p->steps;

	printf("%s:\n", p->name);
	for (int i = 0; i < t->n; i++) {
		int n;

		s += strspn(s, " ;");
		n = (int)strcspn(s, ";");
		printf("    %-28.*s %s\n", n, s, t->text[i]);
		s += n;
	}
}

static int act(char **argv)
{
	struct scene *s = scene_map(argv[2]);
	int role = role_of(argv[3]);

	if (!s || role < 0)
		return 2;
	actor_at_home = argv[4][0] == 'h';
	memcpy(s->member[role].answer, "ok", 3);
	s->member[role].answered++;
	actor_play(s, argv[2], role);
}

/* arrange [-s] [-j JOBS] [-c CHILDREN] [-t SECONDS] [PLAY...]; -t: to wait for an answer */
int main(int argc, char **argv)
{
	bool only_show = false;
	int o, children = 0;

	if (argc == 5 && strcmp(argv[1], "--actor") == 0)
		return act(argv);
	while ((o = getopt(argc, argv, "sj:c:t:")) != -1) {
		only_show |= o == 's';
		njobs = o == 'j' ? atoi(optarg) : njobs;
		children = o == 'c' ? atoi(optarg) : children;
		stage_patience_s = o == 't' ? atoi(optarg) : stage_patience_s;
	}
	if (njobs < 1 || njobs > JOBS_MAX)
		return 2;
	dir = getenv("LAB_TMP") ? getenv("LAB_TMP") : "/tmp";
	outcomes = mmap(NULL, JOBS_MAX * sizeof(*outcomes), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < nscripts; i++) {
		bool wanted = optind == argc && (!children || scripts[i].children == children);

		for (int k = optind; k < argc; k++)
			wanted |= strcmp(argv[k], scripts[i].name) == 0;
		if (wanted)
			(only_show ? show : play)(&scripts[i]);
	}
	printf("%s - %ld arrangements, %ld answers compared, %ld not as at home\n",
	       failures ? "NOT OK" : "ok", arrangements, checks, failures);
	return failures ? 1 : 0;
}
