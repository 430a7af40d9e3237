/*
 * Performances, several at a time, each with a conductor and a scene of its own; what
 * came of them is counted for each play. Order does not matter to any of them, so
 * nothing waits for the slowest of a play.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bproc.h>

#include "arrange.h"

#define SHOWN_MAX 12 /* failures of one play that are printed */
#define USER 20000   /* and up: of the families that are not root's */

struct play plays[PLAYS_MAX];
int nplays, pool_jobs = 12;
long pool_checks;

static struct job {
	pid_t pid;
	struct play *play;
	bool reference;
	struct arrangement a;
	char path[128];
} jobs[JOBS_MAX];
static struct outcome *outcomes;
static int nrunning;
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

static void count(const struct job *j, const struct outcome *o)
{
	struct play *p = j->play;

	p->acted += !j->reference;
	pool_checks += o->checks;
	if (!o->failures)
		return;
	p->failures++;
	if (p->shown++ >= SHOWN_MAX)
		return;
	printf("NOT OK - ");
	if (j->reference)
		printf("%s, all at home", p->script.name);
	else
		print_arrangement(&p->script, &j->a);
	printf("; %s: at home '%s', here '%s'; pids, states at home", o->step, o->want, o->got);
	for (int k = 0; k < ROLE_COUNT; k++)
		printf(" %d%c", (int)o->pid[k], o->state[k]);
	printf("\n");
	fflush(stdout);
}

static void reap_one(void)
{
	int status, i;
	pid_t pid = wait(&status);

	for (i = 0; i < pool_jobs && jobs[i].pid != pid; i++)
		;
	if (pid <= 0 || i == pool_jobs)
		return;
	if (!WIFEXITED(status)) {
		outcomes[i].failures = 1;
		snprintf(outcomes[i].step, TEXT_MAX, "the conductor has ended: %#x", status);
	}
	count(&jobs[i], &outcomes[i]);
	jobs[i].pid = 0;
	nrunning--;
}

static void make_scene(const char *path)
{
	int fd;

	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fchmod(fd, 0666) < 0 || ftruncate(fd, sizeof(struct scene)) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

/* In a conductor. Its family is forked without them: who shares memory cannot move alone. */
static void keep_results(void)
{
	madvise(outcomes, JOBS_MAX * sizeof(*outcomes), MADV_DONTFORK);
	for (int i = 0; i < nplays; i++)
		if (plays[i].home)
			madvise(plays[i].home, 2 * sizeof(*plays[i].home), MADV_DONTFORK);
}

/* ret_trace NULL: to be compared with home's. */
static void begin(struct play *p, const struct arrangement *a, struct trace *ret_trace)
{
	struct job *j = jobs;
	struct outcome *o;

	while (nrunning == pool_jobs)
		reap_one();
	while (j->pid)
		j++;
	o = &outcomes[j - jobs];
	j->play = p;
	j->a = *a;
	/* kill(-1) is to reach this family and no other, nor the lab. */
	j->a.user = strstr(p->script.steps, " kill all ") ? USER + (int)(j - jobs) : 0;
	j->reference = ret_trace != NULL;
	snprintf(j->path, sizeof(j->path), "%s/scene.%d", dir, (int)(j - jobs));
	make_scene(j->path);
	memset(o, 0, sizeof(*o));
	fflush(stdout);
	j->pid = fork();
	if (j->pid == 0) {
		keep_results();
		stage_run(j->path, &p->script, &j->a, ret_trace ? NULL : p->home, ret_trace, o);
		_exit(0);
	}
	if (j->pid < 0) {
		perror("fork");
		exit(1);
	}
	nrunning++;
}

void pool_finish(void)
{
	while (nrunning > 0)
		reap_one();
}

void pool_start(struct play *p, const struct arrangement *a)
{
	begin(p, a, NULL);
}

void pool_reference(struct play *p)
{
	const struct arrangement none = {.parent = HOME, .child = {HOME, HOME, HOME}};

	p->home = mmap(NULL, 2 * sizeof(*p->home), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->home == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	for (int i = 0; i < 2; i++)
		begin(p, &none, &p->home[i]);
}

int pool_open(void)
{
	dir = getenv("LAB_TMP") ? getenv("LAB_TMP") : "/tmp";
	/* Families of users go everywhere, and open the scene there as who they are. */
	for (int node = 0; node < NODES; node++)
		if (bproc_chmod(node, 0111) < 0)
			return -1;
	if (getenv("LAB_TMP"))
		chmod(dir, 0755);
	outcomes = mmap(NULL, JOBS_MAX * sizeof(*outcomes), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return outcomes == MAP_FAILED || pool_jobs < 1 || pool_jobs > JOBS_MAX ? -1 : 0;
}
