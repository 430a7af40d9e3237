/*
 * The node table (node.h). Runs in bpmaster; no I/O.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/sys/bproc_common.h"
#include "node.h"

#define PID_SPACE (1 << 22) /* PID_MAX_LIMIT of a 64-bit kernel */
#define FRONT_LO 300	    /* RESERVED_PIDS: where the kernel's cursor wraps to */
#define FRONT_HI 65536
#define BORN_STEPS 16	       /* in which the next master is told of the numbers of a slot */
#define FRONT_LAST (2 * 65536) /* the last pids are the front end's too */

const struct fsm_row node_rows[] = {
	{NS_DOWN, NE_HELLO, NA_BOOT, NS_CONNECTED},
	{NS_DOWN, NE_HELLO_OTHER, NA_BOOT, NS_CONNECTED},
	{NS_DOWN, NE_SCRIPT_OK, NA_IGNORE, NS_DOWN},
	{NS_DOWN, NE_SCRIPT_FAIL, NA_IGNORE, NS_DOWN},
	{NS_DOWN, NE_LOST, NA_IGNORE, NS_DOWN},
	{NS_DOWN, NE_TIMEOUT, NA_IGNORE, NS_DOWN},
	{NS_DOWN, NE_SET, NA_REFUSE, NS_DOWN},
	{NS_DOWN, NE_SET_DOWN, NA_IGNORE, NS_DOWN},

	{NS_CONNECTED, NE_HELLO, NA_DISPLACE, NS_CONNECTED},
	{NS_CONNECTED, NE_HELLO_OTHER, NA_REFUSE, NS_CONNECTED},
	{NS_CONNECTED, NE_SCRIPT_OK, NA_UP, NS_CONNECTED},
	{NS_CONNECTED, NE_SCRIPT_FAIL, NA_ERROR, NS_CONNECTED},
	{NS_CONNECTED, NE_LOST, NA_WAIT, NS_UNREACHABLE},
	{NS_CONNECTED, NE_TIMEOUT, NA_IGNORE, NS_CONNECTED},
	{NS_CONNECTED, NE_SET, NA_SET, NS_CONNECTED},
	{NS_CONNECTED, NE_SET_DOWN, NA_DEAD, NS_DOWN},

	{NS_UNREACHABLE, NE_HELLO, NA_REJOIN, NS_CONNECTED},
	{NS_UNREACHABLE, NE_HELLO_OTHER, NA_REBOOT, NS_CONNECTED},
	{NS_UNREACHABLE, NE_SCRIPT_OK, NA_UP, NS_UNREACHABLE},
	{NS_UNREACHABLE, NE_SCRIPT_FAIL, NA_ERROR, NS_UNREACHABLE},
	{NS_UNREACHABLE, NE_LOST, NA_IGNORE, NS_UNREACHABLE},
	{NS_UNREACHABLE, NE_TIMEOUT, NA_DEAD, NS_DOWN},
	{NS_UNREACHABLE, NE_SET, NA_REFUSE, NS_UNREACHABLE},
	{NS_UNREACHABLE, NE_SET_DOWN, NA_DEAD, NS_DOWN},
};
const size_t node_nrows = sizeof(node_rows) / sizeof(*node_rows);

static void reset(struct node *n, const char *status)
{
	strcpy(n->status, status);
	n->mode = n->num == NODE_HOME ? 0111 : NODE_MODE_NEW;
	n->uid = 0;
	n->gid = 0;
}

int node_table_init(struct node_table *t, const struct config *c)
{
	int32_t high = c->count ? c->node[c->count - 1].node : 0;

	*t = (struct node_table){.count = c->count + 1, .slot_pids = (int32_t)c->slot_pids};
	/* All nodes' slots lie between the front end's first pids and its last. */
	while (FRONT_HI + (int64_t)(high + 1) * t->slot_pids > PID_SPACE - FRONT_LAST)
		t->slot_pids /= 2;
	t->node = calloc(t->count, sizeof(*t->node));
	if (!t->node)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->count; i++) {
		t->node[i].num = i == 0 ? NODE_HOME : c->node[i - 1].node;
		t->node[i].addr = i == 0 ? 0 : c->node[i - 1].addr;
		reset(&t->node[i], "down");
	}
	return 0;
}

void node_table_free(struct node_table *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		free(t->node[i].kept);
	free(t->node);
	*t = (struct node_table){0};
}

struct node *node_get(struct node_table *t, int32_t num)
{
	uint32_t lo = 0, hi = t->count, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (t->node[mid].num == num)
			return &t->node[mid];
		if (t->node[mid].num < num)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

struct node *node_by_addr(struct node_table *t, uint32_t addr)
{
	for (uint32_t i = 1; i < t->count; i++)
		if (t->node[i].addr == addr)
			return &t->node[i];
	return NULL;
}

uint32_t node_index(const struct node_table *t, const struct node *n)
{
	return (uint32_t)(n - t->node);
}

enum node_action node_step(struct node *n, enum node_event event)
{
	const struct fsm_row *row = fsm_find(node_rows, node_nrows, n->state, event);
	/* While unreachable the word waits for its return. */
	char *status = n->state == NS_UNREACHABLE ? n->saved : n->status;

	n->state = row->next;
	switch ((enum node_action)row->action) {
	case NA_BOOT:
	case NA_REBOOT:
		reset(n, "boot");
		break;
	case NA_UP:
		if (strcmp(status, "boot") == 0)
			strcpy(status, "up");
		break;
	case NA_ERROR:
		if (strcmp(status, "boot") == 0)
			strcpy(status, "error");
		break;
	case NA_WAIT:
		strcpy(n->saved, n->status);
		strcpy(n->status, "unreachable");
		break;
	case NA_REJOIN:
		strcpy(n->status, n->saved);
		break;
	case NA_DEAD:
		reset(n, "down");
		break;
	case NA_IGNORE:
	case NA_DISPLACE:
	case NA_REFUSE:
	case NA_SET:
		break;
	}
	return row->action;
}

static bool letter(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

int node_status_valid(const char *status)
{
	size_t n = 0;

	if (!letter(status[0]))
		return -EINVAL;
	for (; status[n]; n++)
		if (!letter(status[n]) && status[n] != '_' && (status[n] < '0' || status[n] > '9'))
			return -EINVAL;
	return n > NODE_STATUS_MAX ? -ENOSPC : 0;
}

static bool in_group(uint32_t gid, uint32_t own, const uint32_t *groups, size_t ngroups)
{
	if (gid == own)
		return true;
	for (size_t i = 0; i < ngroups; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

int node_access(const struct node *n, uint32_t uid, uint32_t gid, const uint32_t *groups,
		size_t ngroups, struct bproc_err *err)
{
	uint32_t bit;

	if (n->set_down)
		return bproc_err_set(err, BE_NODEDOWN, "node %d is being set down", n->num);
	if (n->state != NS_CONNECTED || (uid != 0 && strcmp(n->status, "up") != 0))
		return bproc_err_set(err, BE_NODEDOWN, "node %d is %s", n->num, n->status);
	if (uid == 0)
		return 0;
	if (uid == n->uid)
		bit = 0100;
	else
		bit = in_group(n->gid, gid, groups, ngroups) ? 0010 : 0001;
	if (n->mode & bit)
		return 0;
	return bproc_err_set(err, EACCES,
			     "uid %u may not use node %d (owner %u, group %u, mode %04o)", uid,
			     n->num, n->uid, n->gid, n->mode);
}

void node_lease(const struct node_table *t, int32_t num, int32_t *ret_lo, int32_t *ret_hi)
{
	if (num == NODE_HOME) {
		*ret_lo = FRONT_LO;
		*ret_hi = FRONT_HI;
		return;
	}
	*ret_lo = FRONT_HI + num * t->slot_pids;
	*ret_hi = *ret_lo + t->slot_pids;
}

/* In no order when all are told again; behind the last one it begins anew. */
static bool is_later(const struct node_table *t, int32_t pid, int32_t than)
{
	return pid > than || than - pid > t->slot_pids / 2;
}

bool node_note_born(struct node_table *t, int32_t pid)
{
	int32_t num = node_of_pid(t, pid), lo, hi;
	struct node *n = num == NODE_HOME ? NULL : node_get(t, num);

	if (!n)
		return false;
	if (is_later(t, pid, n->born))
		n->born = pid;
	if (!is_later(t, pid, n->born_kept))
		return false;
	node_lease(t, num, &lo, &hi);
	n->born_kept =
		pid + t->slot_pids / BORN_STEPS < hi ? pid + t->slot_pids / BORN_STEPS : hi - 1;
	return true;
}

int32_t node_lease_next(const struct node_table *t, const struct node *n)
{
	int32_t lo, hi;

	node_lease(t, n->num, &lo, &hi);
	return n->born && n->born + 1 < hi ? n->born + 1 : lo;
}

int32_t node_of_pid(struct node_table *t, int32_t pid)
{
	int32_t num;

	if (pid < FRONT_HI || pid >= PID_SPACE - FRONT_LAST)
		return NODE_HOME;
	num = (pid - FRONT_HI) / t->slot_pids;
	return node_get(t, num) ? num : NODE_HOME;
}
