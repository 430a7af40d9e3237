/*
 * What home has said, as it has to be elsewhere: the same, but for what bproc(7) lists
 * as what can be told apart. So that exactly that is expected, and nowhere else, it is
 * known here who is where, and since when.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arrange.h"

static int place[ROLE_COUNT];
static bool was_there[ROLE_COUNT]; /* where P is, before P came */
static struct {
	int from; /* 0, the conductor: nothing */
	char sig[16];
} queued[ROLE_COUNT];

void expect_start(void)
{
	for (int i = 0; i < ROLE_COUNT; i++)
		place[i] = HOME;
}

/* bproc(7): what the kernel sends at home is seen on a node as sent by process 1. */
bool expect_by_kernel(const struct logged *l)
{
	return l->sig != SIGCHLD && (l->code == SI_KERNEL || (l->code == SI_USER && l->pid == 1));
}

static void moves(int role, int to)
{
	if (role == ROLE_P && to != place[ROLE_P])
		for (int i = ROLE_A; i <= ROLE_C; i++)
			was_there[i] = to != HOME && place[i] == to;
	else if (to != place[role])
		was_there[role] = false;
	place[role] = to;
}

/*
 * bproc(7): a member of the sender's group, or of all that it may signal, that is on the
 * sender's node sees SI_QUEUE.
 */
static void signals(int role, const char *whom, const char *sig)
{
	if (place[role] == HOME || !whom[0] || !whom[1])
		return;
	for (int i = ROLE_P; i < ROLE_COUNT; i++) {
		if (place[i] != place[role])
			continue;
		queued[i].from = role;
		snprintf(queued[i].sig, sizeof(queued[i].sig), "%s", sig);
	}
}

void expect_note(int role, const char *order)
{
	char verb[16] = "", a[16] = "", b[16] = "";

	sscanf(order, "%15s %15s %15s", verb, a, b);
	if (strcmp(verb, "move") == 0)
		moves(role, atoi(a));
	else if (strcmp(verb, "fork") == 0)
		place[role_of(a)] = place[role];
	else if (strcmp(verb, "rfork") == 0)
		place[role_of(a)] = atoi(b);
	else if (strcmp(verb, "log") == 0)
		queued[role].from = 0;
	else if (strcmp(verb, "kill") == 0)
		signals(role, a, b);
}

void expect_answer(int role, const char *verb, const char *home, char *want)
{
	char sent[64];
	const char *at;

	snprintf(want, TEXT_MAX, "%s", home);
	if (strcmp(verb, "log") != 0 || queued[role].from == 0)
		return;
	snprintf(sent, sizeof(sent), "%s from %c code 0", queued[role].sig,
		 ROLE_NAMES[queued[role].from]);
	at = strstr(home, sent);
	if (at)
		snprintf(want + (at - home), TEXT_MAX - (size_t)(at - home), "%.*s-1%s",
			 (int)strlen(sent) - 1, sent, at + strlen(sent));
}

/*
 * bproc(7): of several children that have ended, the one that was where its parent has come to
 * is shown before one that was not. What is looked at, and not taken, may so be of another child,
 * if both are there to be waited for as home has them: the questions that say so.
 */
bool expect_other_child(int role, const char *order, const char *want, const char *got,
			char ret_ask[2][64])
{
	char verb[16] = "", whom[16] = "", letters[16] = "";
	int wanted = role_of((char[]){want[0], '\0'}), other = role_of((char[]){got[0], '\0'});

	sscanf(order, "%15s %15s %15s", verb, whom, letters);
	if (role != ROLE_P || strcmp(verb, "waitid") != 0 || !whom[1] || !strchr(letters, 'n') ||
	    wanted < ROLE_A || other < ROLE_A || wanted == other || was_there[wanted] ||
	    !was_there[other])
		return false;
	snprintf(ret_ask[0], sizeof(ret_ask[0]), "waitid %c %sh", want[0], letters);
	snprintf(ret_ask[1], sizeof(ret_ask[1]), "waitid %c %sh", got[0], letters);
	return true;
}
