/*
 * roam: one process visits every node that is up and comes home. What it found
 * on the way is in its memory, so it can tell at home. Its pid never changes.
 *
 *	cc roam.c $(pkg-config --cflags --libs bproc) -o roam && ./roam
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/bproc.h>
#include <unistd.h>

#define STOPS 64

int main(void)
{
	struct bproc_node_set_t nodes = BPROC_EMPTY_NODESET;
	char seen[STOPS][64];
	int n = 0, bad = 0;

	if (bproc_nodelist(&nodes) < 0) {
		fprintf(stderr, "roam: %s\n", bproc_strerror(errno));
		return 1;
	}
	for (int i = 0; i < nodes.size && n < STOPS; i++) {
		const struct bproc_node_info_t *node = bproc_node_set_node(&nodes, i);

		if (strcmp(node->status, "up"))
			continue;
		/* On failure we are still where we were. */
		if (bproc_move(node->node) < 0) {
			fprintf(stderr, "roam: to node %d: %s\n", node->node,
				bproc_strerror(errno));
			bad = 1;
			continue;
		}
		gethostname(seen[n++], sizeof(seen[0]));
	}
	if (bproc_move(BPROC_NODE_MASTER) < 0) {
		fprintf(stderr, "roam: home: %s\n", bproc_strerror(errno));
		return 1;
	}
	printf("%d was on", (int)getpid());
	for (int i = 0; i < n; i++)
		printf(" %s", seen[i]);
	printf(" and is home again\n");
	bproc_nodeset_free(&nodes);
	return bad;
}
