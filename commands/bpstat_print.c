/*
 * The forms in which bpstat prints nodes and processes. bpstat(1).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bpstat.h"

#define NODES_WIDTH_MIN 20
#define OTHER_WIDTH 51 /* of the columns behind Node(s) */

static const char *user_name(unsigned int uid, char buf[16])
{
	struct passwd *pw = getpwuid(uid);

	snprintf(buf, 16, "%u", uid);
	return pw ? pw->pw_name : buf;
}

static const char *group_name(unsigned int gid, char buf[16])
{
	struct group *gr = getgrgid(gid);

	snprintf(buf, 16, "%u", gid);
	return gr ? gr->gr_name : buf;
}

static const char *mode_text(unsigned int mode, char buf[11])
{
	strcpy(buf, "----------");
	for (int i = 0; i < 3; i++)
		if (mode & (0100u >> 3 * i))
			buf[3 + 3 * i] = 'x';
	return buf;
}

static const char *address(const struct bproc_node_info_t *n, char buf[INET_ADDRSTRLEN])
{
	struct sockaddr_in a;

	memcpy(&a, &n->addr, sizeof(a));
	if (a.sin_addr.s_addr == 0)
		return "-";
	return inet_ntop(AF_INET, &a.sin_addr, buf, INET_ADDRSTRLEN);
}

static int alike(const struct bproc_node_info_t *a, const struct bproc_node_info_t *b)
{
	return strcmp(a->status, b->status) == 0 && a->mode == b->mode && a->user == b->user &&
	       a->group == b->group;
}

/* "0-3,7" of the nodes from first on that are like it; they are marked as done. */
static char *ranges(const struct bproc_node_set_t *ns, int first, char *done)
{
	size_t size = (size_t)ns->size * 24 + 1, len = 0;
	char *text = malloc(size);
	int lo, hi, i = first, j;

	if (!text)
		return NULL;
	text[0] = '\0';
	while (i < ns->size) {
		if (done[i] || !alike(&ns->node[i], &ns->node[first])) {
			i++;
			continue;
		}
		lo = hi = ns->node[i].node;
		done[i] = 1;
		for (j = i + 1; j < ns->size; j++) {
			if (done[j] || !alike(&ns->node[j], &ns->node[first]))
				continue;
			if (ns->node[j].node != hi + 1)
				break;
			hi++;
			done[j] = 1;
		}
		len += (size_t)snprintf(text + len, size - len, "%s%d", len ? "," : "", lo);
		if (hi > lo)
			len += (size_t)snprintf(text + len, size - len, "-%d", hi);
		i = j;
	}
	return text;
}

/* The first column; a text that is too long for a terminal is broken at its commas. */
static void print_ranges(char *text, int width, int fold)
{
	char *cut;

	while (fold && (int)strlen(text) > width) {
		for (cut = text + width; cut > text && *cut != ','; cut--)
			;
		if (cut == text)
			break;
		printf("%.*s\n", (int)(cut - text + 1), text);
		text = cut + 1;
	}
	printf("%-*s", width, text);
}

void print_compact(const struct bproc_node_set_t *ns)
{
	struct winsize ws = {0};
	int fold = ioctl(1, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0, width = 31;
	char user[16], group[16], mode[11], *text, *done = calloc((size_t)ns->size + 1, 1);

	if (fold && ws.ws_col > OTHER_WIDTH + NODES_WIDTH_MIN)
		width = ws.ws_col - OTHER_WIDTH;
	printf("%-*s %-15s %-10s %-10s %s\n", width, "Node(s)", "Status", "Mode", "User", "Group");
	for (int i = 0; done && i < ns->size; i++) {
		if (done[i])
			continue;
		text = ranges(ns, i, done);
		if (!text)
			break;
		print_ranges(text, width, fold);
		printf(" %-15s %-10s %-10s %s\n", ns->node[i].status,
		       mode_text(ns->node[i].mode, mode), user_name(ns->node[i].user, user),
		       group_name(ns->node[i].group, group));
		free(text);
	}
	free(done);
}

void print_long(const struct bproc_node_set_t *ns)
{
	char user[16], group[16], mode[11], ip[INET_ADDRSTRLEN], why[128];
	const struct bproc_node_info_t *n;

	printf("%-6s %-15s %-15s %-10s %-10s %s\n", "Node", "Address", "Status", "Mode", "User",
	       "Group");
	for (int i = 0; i < ns->size; i++) {
		n = &ns->node[i];
		printf("%-6d %-15s %-15s %-10s %-10s %s", n->node, address(n, ip), n->status,
		       mode_text(n->mode, mode), user_name(n->user, user),
		       group_name(n->group, group));
		if (bproc_nodereason(n->node, why, sizeof(why)) > 0)
			printf("  (%s)", why);
		putchar('\n');
	}
}

void print_addresses(const struct bproc_node_set_t *ns)
{
	char ip[INET_ADDRSTRLEN];

	for (int i = 0; i < ns->size; i++)
		puts(address(&ns->node[i], ip));
}

void print_states(const struct bproc_node_set_t *ns)
{
	for (int i = 0; i < ns->size; i++)
		puts(ns->node[i].status);
}

void print_numbers(const struct bproc_node_set_t *ns)
{
	for (int i = 0; i < ns->size; i++)
		printf("%d\n", ns->node[i].node);
}

void print_total(const struct bproc_node_set_t *ns)
{
	printf("%d\n", ns->size);
}

static int is_chosen(const struct bproc_node_set_t *ns, int node)
{
	for (int i = 0; i < ns->size; i++)
		if (ns->node[i].node == node)
			return 1;
	return 0;
}

static int all_processes(struct bproc_proc_info_t **ret_list)
{
	int n = bproc_proclist(BPROC_NODE_ANY, ret_list);

	if (n < 0)
		fprintf(stderr, "bpstat: %s\n", bproc_errtext());
	return n;
}

int print_processes(const struct bproc_node_set_t *ns)
{
	struct bproc_proc_info_t *list;
	int n = all_processes(&list);

	if (n < 0)
		return -1;
	printf("PID\tNode\n");
	for (int i = 0; i < n; i++)
		if (is_chosen(ns, list[i].node))
			printf("%d\t%d\n", list[i].pid, list[i].node);
	free(list);
	return 0;
}

/* Which word of a heading is PID; -1: none. */
static int pid_column(const char *heading)
{
	char *copy = strdup(heading), *save = NULL, *w;
	int column = 0;

	for (w = copy ? strtok_r(copy, " \t\n", &save) : NULL; w;
	     w = strtok_r(NULL, " \t\n", &save)) {
		if (strcmp(w, "PID") == 0)
			break;
		column++;
	}
	free(copy);
	return w ? column : -1;
}

static int pid_in_column(const char *line, int column)
{
	for (;; column--) {
		line += strspn(line, " \t");
		if (column == 0)
			return atoi(line);
		line += strcspn(line, " \t\n");
		if (!*line)
			return 0;
	}
}

int print_ps(void)
{
	struct bproc_proc_info_t *list;
	int n = all_processes(&list), column = -1, pid, at;
	char *line = NULL;
	size_t size = 0;

	if (n < 0)
		return -1;
	while (getline(&line, &size, stdin) > 0) {
		at = pid_column(line);
		if (at >= 0) {
			column = at;
			printf("NODE  %s", line);
			continue;
		}
		pid = column < 0 ? 0 : pid_in_column(line, column);
		for (at = 0; at < n && list[at].pid != pid; at++)
			;
		if (at < n)
			printf("%-5d %s", list[at].node, line);
		else
			printf("%-5s %s", "", line);
	}
	free(line);
	free(list);
	return 0;
}
