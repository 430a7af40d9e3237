/*
 * The plays that nobody has written down: every act of a parent or of a child, with one, two and
 * three children, and of every act that is waited for every way to wait. The words of the plays
 * are those of script.c, and these besides:
 *
 *	{e|STEPS}	STEPS make A do what "e", "u" or "c" wait for, and P waits, in one of FORMS ways:
 *			begun before they are done, or asked for afterwards without end
 *	{each STEPS}	once for each child, which is called X there
 *	{rest}		the other children end, and so does P
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arrange.h"

struct act {
	const char *name;
	bool waited; /* in all forms */
	bool alike;  /* all children do the same, so their places have no order */
	int places;
	const char *steps;
};

static const struct act acts[] = {
	/* a child */
	{"exit", true, false, 0, "{e|A exit 7}T kill A 0;A state;{rest}"},
	{"kill", true, false, 0, "{e|T kill A KILL}T kill A 0;A state;{rest}"},
	{"term", true, false, 0, "{e|T kill A TERM}{rest}"},
	{"fault", true, false, 0, "A dfl SEGV;{e|A die SEGV}{rest}"},
	{"stop", true, false, 0,
	 "{u|T kill A STOP}A state;{c|T kill A CONT}A log;A state;A exit 1;P wait4 A;P log;{rest}"},
	{"stop_self", true, false, 0,
	 "{u|A die STOP}{c|T kill A CONT}A log;A ids;{u|A die TSTP}T kill A KILL;P log;P wait4 A;{rest}"},
	{"move", true, false, 1,
	 "A move $1;A ids;P log;P wait4 any h;T kill A USR1;A log;{e|A exit 5}{rest}"},
	{"exec", true, false, 0, "A exec;A ids;P log;T kill A USR1;A log;{e|A exit 1}{rest}"},
	{"fork", true, false, 0,
	 "A fork G;G ids;T kill G USR2;G log;G exit 4;A log;A wait4 any;A log;{e|A exit 6}{rest}"},
	{"leave", true, false, 0,
	 "A fork G;{e|A exit 6}G ids;T kill G USR1;G log;G exit 4;G over;{rest}"},

	/* the parent */
	{"parent_exits", false, true, 0,
	 "P exit 3;T log;T waitid any e;{each X ids;X log;T kill X USR1;X log;}{each X exit 1;X "
	 "over;}"},
	{"parent_killed", false, true, 0,
	 "T kill P KILL;T log;T wait4 P;{each X ids;X log;}{each T kill X TERM;X over;}"},
	{"parent_death", false, true, 0,
	 "{each X pdeath USR1;}T kill P KILL;{each X log;}T wait4 P;{each X ids;}{each X exit 1;X "
	 "over;}"},
	{"parent_moves", true, false, 1,
	 "P move $1;P ids;{each X ids;}P wait4 any h;T kill P USR2;P log;{e|A exit 5}{rest}"},
	{"parent_execs", true, false, 0, "P exec;P ids;{each X ids;}{e|A exit 5}{rest}"},
	{"zombie_moves", false, false, 1,
	 "A exit 5;P log;P move $1;P waitid any ehn;P waitid A en;P waitid -P e;P wait4 A h;A state;"
	 "{rest}"},
	{"stop_moves", false, false, 1,
	 "T kill A STOP;P log;P move $1;P waitid any un;P waitid -P u;P wait4 A uh;T kill A CONT;"
	 "P log;P wait4 A c;T kill A KILL;P log;P wait4 any;{rest}"},
	{"seen_moves", false, false, 1,
	 "T kill A STOP;P log;P wait4 own u;P move $1;P wait4 any uh;T kill A CONT;P log;"
	 "P waitid any c;P wait4 any ch;T kill A TERM;P log;P waitid A e;{rest}"},
	{"run_moves", false, false, 1,
	 "T kill A STOP;P log;P wait4 any u;T kill A CONT;P log;P waitid A c;A log;P move $1;"
	 "P wait4 any uch;T kill A STOP;P log;P wait4 own u;T kill A KILL;P log;P wait4 A;{rest}"},

	/* all of them */
	{"all_end", false, true, 0,
	 "{each X exit 2;P log;}{each P waitid X en;}{each P wait4 X;}P wait4 any;"
	 "{each T kill X 0;}"},
	{"signals", false, true, 0,
	 "{each X kill P USR1;P log;P kill X USR1;X log;X kill T USR2;T log;}A kill P 0;"
	 "{each X kill A USR2;A log;}{rest}"},
	{"group", false, true, 0,
	 "T kill -P USR1;P log;{each X log;}P kill own USR2;P log;{each X log;}A kill -P USR1;P log;"
	 "{each X log;}T kill -P KILL;T wait4 P;{each X over;}"},
	{"everybody", false, true, 0,
	 "P kill all USR1;P log;{each X log;}A kill all USR2;P log;{each X log;}T log;"
	 "P kill all STOP;{each P wait4 X u;}{each X state;}P kill all CONT;{each P wait4 X c;}"
	 "{each X log;}P kill T USR1;A kill all 0;A kill all KILL;T wait4 P;A kill all 0;"
	 "{each X over;}T log;A exit 1;A over"},
};
#define ACTS ((int)(sizeof(acts) / sizeof(acts[0])))

/* Each of these begun before, and asked for after. */
static const struct form {
	const char *call, *whom;
} forms[] = {
	{"wait4", "any"},  {"wait4", "A"},  {"wait4", "own"}, {"wait4", "-P"},
	{"waitid", "any"}, {"waitid", "A"}, {"waitid", "-P"},
};
#define FORMS (2 * (int)(sizeof(forms) / sizeof(forms[0])))

struct text {
	char *at;
	size_t n, max;
};

static void put(struct text *t, const char *s, size_t n)
{
	if (t->n + n >= t->max)
		abort(); /* the plays are constant: seen at the first start */
	memcpy(t->at + t->n, s, n);
	t->at[t->n += n] = '\0';
}

static void puts_to(struct text *t, const char *s)
{
	put(t, s, strlen(s));
}

/* wait4() has no word for "exited", which it always waits for. */
static void put_wait(struct text *t, const char *call, const char *whom, char event,
		     const char *more)
{
	char s[64], what[2] = {event, '\0'};

	if (event == 'e' && strcmp(call, "wait4") == 0)
		what[0] = '\0';
	snprintf(s, sizeof(s), "%s %s %s%s;", call, whom, what, more);
	puts_to(t, s);
}

static void put_waited(struct text *t, char event, const char *steps, size_t n, int form)
{
	const struct form *f = &forms[form / 2];

	if (form % 2) {
		puts_to(t, "P begin ");
		put_wait(t, f->call, f->whom, event, "");
		put(t, steps, n);
		puts_to(t, ";P end;P log;");
	} else {
		puts_to(t, "P ");
		put_wait(t, f->call, f->whom, event, "h");
		put(t, steps, n);
		puts_to(t, ";P log;P ");
		put_wait(t, "waitid", "A", event, "n");
		puts_to(t, "P ");
		put_wait(t, "waitid", "-P", event, "hn");
		puts_to(t, "P ");
		put_wait(t, f->call, f->whom, event, "");
	}
	puts_to(t, "P ");
	put_wait(t, f->call, f->whom, event, "h");
}

static void put_each(struct text *t, const char *steps, size_t n, int children)
{
	for (int c = 0; c < children; c++)
		for (size_t i = 0; i < n; i++)
			put(t, steps[i] == 'X' ? &ROLE_NAMES[ROLE_A + c] : steps + i, 1);
}

static void put_rest(struct text *t, int children)
{
	static const char *const end[] = {"", "B exit 2;P log;P wait4 any;",
					  "T kill C TERM;P log;P waitid any e;"};

	for (int c = 1; c < children; c++)
		puts_to(t, end[c]);
	puts_to(t, "P wait4 any h;P exit 3;T log;T waitid any e;T log");
}

static void write_steps(struct text *t, const char *s, int children, int form)
{
	while (*s) {
		size_t n = strcspn(s, "{");
		const char *in = s + n + 1, *end;

		put(t, s, n);
		if (!s[n])
			return;
		end = strchr(in, '}');
		if (strncmp(in, "rest", 4) == 0)
			put_rest(t, children);
		else if (strncmp(in, "each ", 5) == 0)
			put_each(t, in + 5, (size_t)(end - in) - 5, children);
		else
			put_waited(t, *in, in + 2, (size_t)(end - in) - 2, form);
		s = end + 1;
	}
}

static void add(struct play *play, const struct act *a, int children, int form)
{
	static const char *const family[] = {"", "one", "two", "three"};
	char steps[4096];
	struct text t = {.at = steps, .max = sizeof(steps)};
	struct script *p = &play->script;

	snprintf(p->name, sizeof(p->name), a->waited ? "%s.%s.%d" : "%s.%s", family[children],
		 a->name, form);
	p->children = children;
	p->places = a->places;
	play->alike = a->alike;
	/* One child: every form in every arrangement. More: they take turns. */
	if (children > 1 && a->waited) {
		play->turn = form;
		play->turns = FORMS;
	}
	write_steps(&t, a->steps, children, form);
	p->steps = strdup(steps);
}

int generate(struct play *ret, int max)
{
	int n = 0;

	for (int children = 1; children <= 3; children++)
		for (int a = 0; a < ACTS; a++)
			for (int f = 0; f < (acts[a].waited ? FORMS : 1); f++) {
				if (n == max)
					abort();
				add(&ret[n++], &acts[a], children, f);
			}
	return n;
}
