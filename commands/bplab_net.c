/*
 * The lab's network: a bridge in the lab's own network namespace, and for each
 * place a veth pair whose far end is the place's eth0. Runs in the lab's pid 1,
 * net_place() in the place's. The work is done by ip(8) and bridge(8), one
 * batch for all cables, since a start must not cost more than a few forks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bplab.h"

#define PORT "lab-%s" /* the bridge's end; a bare "master" would be a keyword of ip(8) */

static const char *const ip_batch[] = {"ip", "-batch", "-", NULL};

int net_bridge(void)
{
	return lab_run(ip_batch, "link set lo up\n"
				 "link add lab type bridge stp_state 0 forward_delay 0\n"
				 "link set lab up\n");
}

/* pids[i] is the pid 1 of place first + i. */
int net_cables(int first, int count, const pid_t *pids)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return -ENOMEM;
	for (int i = 0; i < count; i++) {
		const char *name = lab_name(first + i);
		int n = first + i + 1;

		/* The address says who it is, so that a node that is started
		 * again is known to its peers at once. */
		fprintf(f,
			"link add " PORT " type veth peer name eth0 netns %d"
			" address 02:62:70:00:%02x:%02x\n"
			"link set " PORT " master lab up\n",
			name, (int)pids[i], n >> 8, n & 255, name);
	}
	fclose(f);
	r = lab_run(ip_batch, text);
	free(text);
	return r;
}

/* Of a place that is gone: the kernel takes its end and ours away, sooner or later. */
void net_unplug(int node)
{
	static const char *const quiet[] = {"sh", "-c", "ip -batch - 2>/dev/null", NULL};
	char line[64];

	snprintf(line, sizeof(line), "link del " PORT "\n", lab_name(node));
	lab_run(quiet, line);
}

/*
 * A disabled bridge port drops what comes in and sends nothing out, and the
 * node's interface keeps its carrier: neither side is told. (The states
 * "blocking" and "listening" do not last without a spanning tree: the bridge
 * makes them forwarding again, net/bridge/br_stp.c.)
 */
int net_cut(int node, bool cut)
{
	char port[32];
	const char *const argv[] = {
		"bridge", "link", "set", "dev", port, "state", cut ? "disabled" : "forwarding",
		NULL};

	snprintf(port, sizeof(port), PORT, lab_name(node));
	return lab_run(argv, NULL);
}

int net_place(int node)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "link set lo up\n"
		 "address add %s/16 dev eth0\n"
		 "link set eth0 up\n",
		 lab_ip(node == LAB_MASTER ? LAB_MASTER_ADDR : LAB_ADDR(node)));
	return lab_run(ip_batch, text);
}
