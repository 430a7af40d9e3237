/*
 * Proves: a family of processes cannot tell where its members are. Every play of
 * script.c and generate.c is acted with all at home, which says what the answers are,
 * and then with the parent and each of its children on each of the four machines, born
 * at home, born where the parent is, or by bproc_rfork(). Children that do nothing of
 * their own are alike, and their places are taken without regard to order. Lab of 3
 * nodes.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arrange.h"

static long part, parts = 1;
static char *left_out[PLAYS_MAX];
static int nleft_out;
static long number; /* of the arrangements so far, of all plays */
#define TOLD_EVERY 1000

typedef void use_fn(struct play *p, const struct arrangement *a);

/* Of a birth that comes to the same as another one: only once. */
static bool is_new(const struct script *p, const struct arrangement *a)
{
	bool apart = false;

	for (int i = 0; i < p->children; i++)
		apart |= a->child[i] != a->parent;
	return a->birth == BORN_HOME || (a->birth == BORN_THERE && a->parent != HOME) ||
	       (a->birth == BORN_FAR && apart);
}

static void each_birth(struct play *p, struct arrangement *a, long *k, use_fn *use)
{
	int turns = p->turns ? p->turns : 1;

	for (int b = 0; b < BIRTHS; b++) {
		a->birth = (enum birth)b;
		if (!is_new(&p->script, a) || (*k)++ % turns != p->turn)
			continue;
		if (number++ % parts == part)
			use(p, a);
	}
}

static void each_child(struct play *p, struct arrangement *a, int i, long *k, use_fn *use)
{
	bool ordered = i > (p->alike ? 0 : 1);

	if (i == p->script.children) {
		each_birth(p, a, k, use);
		return;
	}
	for (int at = ordered ? a->child[i - 1] : HOME; at < NODES; at++) {
		a->child[i] = at;
		each_child(p, a, i + 1, k, use);
	}
}

static void each_place(struct play *p, struct arrangement *a, int i, long *k, use_fn *use)
{
	if (i == p->script.places) {
		each_child(p, a, 0, k, use);
		return;
	}
	for (a->place[i] = HOME; a->place[i] < NODES; a->place[i]++)
		each_place(p, a, i + 1, k, use);
}

/* All of this part. */
static void each_arrangement(use_fn *use)
{
	number = 0;
	for (int i = 0; i < nplays; i++) {
		struct arrangement a = {.birth = BORN_HOME};
		long k = 0;

		for (a.parent = HOME; a.parent < NODES; a.parent++)
			each_place(&plays[i], &a, 0, &k, use);
	}
}

static void want(struct play *p, const struct arrangement *a)
{
	(void)a;
	if (!p->home)
		pool_reference(p);
}

static long failed(void)
{
	long n = 0;

	for (int i = 0; i < nplays; i++)
		n += plays[i].failures;
	return n;
}

static void start(struct play *p, const struct arrangement *a)
{
	static long n;

	pool_start(p, a);
	if (++n % TOLD_EVERY == 0)
		fprintf(stderr, "%ld arrangements, %ld not as at home\n", n, failed());
}

/* Twice the same: else it says nothing of other places. */
static void compare_home(struct play *p)
{
	const struct trace *t = p->home;

	for (int i = 0; t && i < t[0].n; i++) {
		if (strcmp(t[0].text[i], t[1].text[i]) == 0)
			continue;
		printf("NOT OK - %s, step %d: at home '%s', then '%s'\n", p->script.name, i + 1,
		       t[0].text[i], t[1].text[i]);
		p->failures++;
	}
}

static void show(const struct play *p)
{
	const char *s = p->script.steps;

	printf("%s:\n", p->script.name);
	for (int i = 0; i < p->home[0].n; i++) {
		int n;

		s += strspn(s, " ;");
		n = (int)strcspn(s, ";");
		printf("    %-28.*s %s\n", n, s, p->home[0].text[i]);
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

/* A name is that of a play, or of a family of generated ones: "two", "two.exit". */
static bool is_named(const struct script *p, int n, char **name)
{
	for (int i = 0; i < n; i++) {
		size_t len = strlen(name[i]);

		if (strncmp(p->name, name[i], len) == 0 && (!p->name[len] || p->name[len] == '.'))
			return true;
	}
	return false;
}

static void choose(int n, char **name)
{
	static struct play all[PLAYS_MAX];
	int count = nscripts;

	for (int i = 0; i < nscripts; i++)
		all[i].script = scripts[i];
	count += generate(all + nscripts, PLAYS_MAX - nscripts);
	for (int i = 0; i < count; i++)
		if ((n == 0 || is_named(&all[i].script, n, name)) &&
		    !is_named(&all[i].script, nleft_out, left_out))
			plays[nplays++] = all[i];
}

static int report(void)
{
	long failures = failed(), acted = 0;

	for (int i = 0; i < nplays; i++) {
		const struct play *p = &plays[i];

		acted += p->acted;
		if (p->failures || parts == 1)
			printf("%-24s %5ld arrangements, %ld not as at home\n", p->script.name,
			       p->acted, p->failures);
	}
	printf("%s - %ld of %ld arrangements of %d plays, %ld answers compared, %ld not as at "
	       "home\n",
	       failures ? "NOT OK" : "ok", acted, number, nplays, pool_checks, failures);
	return failures ? 1 : 0;
}

/* What is acted: every N-th arrangement from number I on. */
static int parse_part(const char *s)
{
	return sscanf(s, "%ld/%ld", &part, &parts) == 2 && parts > 0 && part >= 0 && part < parts
		       ? 0
		       : -1;
}

/* arrange [-s] [-j JOBS] [-t SECONDS] [--part I/N] [-x PLAY...] [PLAY...]; -t: to wait for an
 * answer */
int main(int argc, char **argv)
{
	static const struct option options[] = {{"part", 1, NULL, 'p'}, {0}};
	bool only_show = false;
	int o, e = 0;

	if (argc == 5 && strcmp(argv[1], "--actor") == 0)
		return act(argv);
	while ((o = getopt_long(argc, argv, "sj:t:x:", options, NULL)) != -1) {
		only_show |= o == 's';
		if (o == 'x' && nleft_out < PLAYS_MAX)
			left_out[nleft_out++] = optarg;
		pool_jobs = o == 'j' ? atoi(optarg) : pool_jobs;
		stage_patience_s = o == 't' ? atoi(optarg) : stage_patience_s;
		e |= o == '?' || (o == 'p' && parse_part(optarg) < 0) ? -1 : 0;
	}
	choose(argc - optind, argv + optind);
	if (e < 0 || nplays == 0 || pool_open() < 0) {
		fprintf(stderr, "arrange [-s] [-j JOBS] [-t SECONDS] [--part I/N] [-x PLAY...] "
				"[PLAY...]\n");
		return 2;
	}
	each_arrangement(want);
	pool_finish();
	for (int i = 0; i < nplays; i++) {
		compare_home(&plays[i]);
		if (only_show && plays[i].home)
			show(&plays[i]);
	}
	if (!only_show)
		each_arrangement(start);
	pool_finish();
	return report();
}
