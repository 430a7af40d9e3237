/*
 * What a master that is restarted would not know of nodes: mode, owner, group and the
 * status that was set, of each that is connected. In a file of the state directory,
 * written whole and by rename after each change; a line is taken up by a node that comes back with
 * the bpinit it had. Without it the node is as if it had just been started. And up to which number
 * processes were born on each, in steps: who has such a number may live elsewhere, and be told of
 * only when the node has been started anew, and would give it to another. Runs in bpmaster.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libbproc/log.h"
#include "master.h"

struct node_kept {
	char status[NODE_STATUS_MAX + 1];
	uint32_t mode, uid, gid;
	char boot_id[NODE_ID_MAX], init_id[NODE_ID_MAX];
};

static void paths(const struct master *m, char path[NODEFILE_PATH], char tmp[NODEFILE_PATH])
{
	snprintf(path, NODEFILE_PATH, "%s/nodes", m->state_dir);
	snprintf(tmp, NODEFILE_PATH, "%s/nodes.new", m->state_dir);
}

static void put_line(FILE *f, int num, const char *status, unsigned int mode, unsigned int uid,
		     unsigned int gid, const char *boot_id, const char *init_id)
{
	fprintf(f, "%d %s %o %u %u %s %s\n", num, status, mode, uid, gid, boot_id, init_id);
}

void nodefile_write(struct master *m)
{
	char path[NODEFILE_PATH], tmp[NODEFILE_PATH];
	const struct node_kept *k;
	const struct node *n;
	static bool told;
	FILE *f;
	int e = 0;

	if (!m->state_dir)
		return; /* nothing is to outlive this one */
	paths(m, path, tmp);
	f = fopen(tmp, "we");
	for (uint32_t i = 1; f && i < m->nodes.count; i++) {
		n = &m->nodes.node[i];
		if (n->born_kept)
			fprintf(f, "born %d %d\n", n->num, n->born_kept);
		if (n->kept) { /* of the last master's time: it has not come back yet */
			k = n->kept;
			put_line(f, n->num, k->status, k->mode, k->uid, k->gid, k->boot_id,
				 k->init_id);
			continue;
		}
		if (n->state == NS_DOWN || !n->init_id[0] || !n->boot_id[0])
			continue;
		put_line(f, n->num, n->state == NS_UNREACHABLE ? n->saved : n->status, n->mode,
			 n->uid, n->gid, n->boot_id, n->init_id);
	}
	if (!f || ferror(f))
		e = errno;
	if (f && fclose(f) != 0)
		e = errno;
	if (e == 0 && rename(tmp, path) < 0)
		e = errno;
	if (e != 0 && !told)
		log_warn("%s: %s: owners and modes of nodes will be lost with this master", path,
			 strerror(e));
	told = e != 0;
}

void nodefile_read(struct master *m)
{
	char path[NODEFILE_PATH], tmp[NODEFILE_PATH], line[256];
	struct node_kept k;
	struct node *n;
	int32_t pid;
	int num;
	FILE *f;

	paths(m, path, tmp);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "born %d %d", &num, &pid) == 2) {
			n = node_get(&m->nodes, num);
			if (n && num != NODE_HOME && node_of_pid(&m->nodes, pid) == num)
				n->born = n->born_kept = pid;
			continue;
		}
		if (sscanf(line, "%d %15s %o %u %u %63s %63s", &num, k.status, &k.mode, &k.uid,
			   &k.gid, k.boot_id, k.init_id) != 7)
			continue;
		n = node_get(&m->nodes, num);
		if (!n || num == NODE_HOME || n->kept || node_status_valid(k.status) < 0 ||
		    k.mode & ~0111u)
			continue;
		n->kept = malloc(sizeof(k));
		if (n->kept)
			*n->kept = k;
	}
	if (f)
		fclose(f);
}

bool nodefile_restore(struct node *n)
{
	struct node_kept *k = n->kept;
	/* What was not finished under the last master begins anew. */
	bool known = k && strcmp(k->init_id, n->init_id) == 0 &&
		     strcmp(k->boot_id, n->boot_id) == 0 && strcmp(k->status, "boot") != 0;

	n->kept = NULL;
	if (known) {
		strcpy(n->status, k->status);
		n->mode = k->mode;
		n->uid = k->uid;
		n->gid = k->gid;
	}
	free(k);
	return known;
}
