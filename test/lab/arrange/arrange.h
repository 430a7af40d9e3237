/*
 * Arrangements: the same small play of a family of processes, acted once with all of
 * it at home and no move, and then with each member on each machine; every answer
 * must be the same. Every scene has a block of memory, a shared mapping of a file: a
 * lab's machines are one kernel, so orders and answers travel by futex and leave no
 * descriptor behind that a move would have to carry.
 *
 *	actor.c	  what a member of the family does when it is told to
 *	script.c  plays that are written down
 *	generate.c plays of every act in every way to wait
 *	stage.c	  one play in one arrangement: its conductor, and the comparison
 *	expect.c  what of home's answers may be otherwise elsewhere, by bproc(7)
 *	pool.c	  several at a time, and what came of them
 *	arrange.c all arrangements of all plays
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TEXT_MAX 240
#define LOG_MAX 64
#define HOME (-1)
#define NODES 3

/* T conducts, at home, and leads the session; P is its child, A, B and C are P's, G is A's. */
enum role { ROLE_T, ROLE_P, ROLE_A, ROLE_B, ROLE_C, ROLE_G, ROLE_COUNT };
#define ROLE_NAMES "TPABCG"

struct logged {
	int sig, code, pid, status;
};
struct member {
	_Atomic uint32_t asked, answered;
	pid_t pid;
	char order[64], answer[TEXT_MAX];
	_Atomic uint32_t nlog;
	struct logged log[LOG_MAX];
	uint32_t log_read; /* the conductor's */
};
struct scene {
	struct member member[ROLE_COUNT];
};

struct scene *scene_map(const char *path);
int role_of(const char *name); /* -1: of nobody */
const char *role_name(const struct scene *s, pid_t pid);
const char *signal_name(int sig);

/* -- actor.c */

/* Begins to act; does not return. */
_Noreturn void actor_play(struct scene *s, const char *path, int role);
/* One order, done by the caller; the answer as text. */
void actor_do(struct scene *s, int role, const char *order, char *answer);
void actor_listen(struct scene *s, int role); /* handlers that log */
extern bool actor_at_home;		      /* moves and rforks are not done: the reference */
void actor_stage(const char *path);	      /* where scenes are, for those it forks */

/* -- script.c, generate.c */

struct script {
	char name[40];
	int children;
	int places; /* of its own: $1, $2 */
	const char *steps;
};
extern const struct script scripts[];
extern const int nscripts;
struct play;
int generate(struct play *ret, int max); /* how many */

/* -- stage.c */

enum birth { BORN_HOME, BORN_THERE, BORN_FAR, BIRTHS };
struct arrangement {
	enum birth birth;
	int parent, child[3], place[2];
	int user; /* whose family it is; 0: root's, as T is */
};
#define STEPS_MAX 80
struct trace {
	int n;
	char text[STEPS_MAX][TEXT_MAX];
};
struct outcome {
	_Atomic int checks, failures;
	pid_t pid[ROLE_COUNT];	/* for the daemons' logs */
	char state[ROLE_COUNT]; /* as ps shows them at home then */
	char step[TEXT_MAX], want[TEXT_MAX], got[TEXT_MAX];
};
extern int stage_patience_s;
/* In the conductor's process. want NULL: with all at home, recorded in ret_trace. */
void stage_run(const char *path, const struct script *p, const struct arrangement *a,
	       const struct trace *want, struct trace *ret_trace, struct outcome *out);

/* -- expect.c */

void expect_start(void);
void expect_note(int role, const char *order); /* a step that was done as it should be */
bool expect_by_kernel(const struct logged *l);
void expect_answer(int role, const char *verb, const char *home, char *want);
/* May it be of another child? Then what P is to be asked: want, and got, come of it. */
bool expect_other_child(int role, const char *order, const char *want, const char *got,
			char ret_ask[2][64]);

/* -- pool.c */

#define JOBS_MAX 64
#define PLAYS_MAX 1024

struct play {
	struct script script;
	bool alike;	    /* its children do the same: which of them is where does not matter */
	int turn, turns;    /* every turns-th arrangement, from number turn on; 0: all */
	struct trace *home; /* two, of two performances; NULL: not wanted */
	long acted, failures, shown;
};
extern struct play plays[PLAYS_MAX];
extern int nplays, pool_jobs;
extern long pool_checks;
int pool_open(void);
void pool_reference(struct play *p);			      /* begins it, twice */
void pool_start(struct play *p, const struct arrangement *a); /* when there is room */
void pool_finish(void);
