/*
 * hello: a child on every node that is up says where it is. What bproc_rfork()
 * is about: the child has the parent's memory, its stdout is the parent's, its
 * exit status comes through wait(), and its pid is the same on both sides.
 *
 *	cc hello.c $(pkg-config --cflags --libs bproc) -o hello && ./hello
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/bproc.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	struct bproc_node_set_t nodes = BPROC_EMPTY_NODESET;
	int started = 0, bad = 0, status;
	char host[64];

	if (bproc_nodelist(&nodes) < 0) {
		fprintf(stderr, "hello: %s\n", bproc_strerror(errno));
		return 1;
	}
	for (int i = 0; i < nodes.size; i++) {
		const struct bproc_node_info_t *n = bproc_node_set_node(&nodes, i);

		if (strcmp(n->status, "up"))
			continue;
		switch (bproc_rfork(n->node)) {
		case -1:
			fprintf(stderr, "hello: node %d: %s\n", n->node, bproc_strerror(errno));
			bad = 1;
			break;
		case 0:
			gethostname(host, sizeof(host));
			printf("hello from node %d, which is %s; I am %d, my parent is %d\n",
			       bproc_currnode(), host, (int)getpid(), (int)getppid());
			exit(0);
		default:
			started++;
		}
	}
	while (started-- > 0)
		if (wait(&status) < 0 || status != 0)
			bad = 1;
	bproc_nodeset_free(&nodes);
	return bad;
}
