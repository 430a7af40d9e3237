/*
 * The configuration file of bpmaster: bproc.conf(5). Strict: an unknown keyword,
 * a bad value or a keyword given twice is an error that names file and line.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"

#define CONFIG_FILE "/etc/bproc/config"
#define CONFIG_PATH_MAX 256
#define CONFIG_NODES_MAX 1024	 /* LOCAL_NODES_MAX: one answer holds all of them */
#define CONFIG_NODE_NUM_MAX 1999 /* highest node number: pid slots get too small then */
#define CONFIG_SLOT_MIN 1024	 /* pids of a node's slot */
#define CONFIG_SLOT_MAX 65536
#define CONFIG_PORT 2223
#define CONFIG_DATA_PORT 2224

/* How births on a node are learned; auto: by the kernel's events where they can be had. */
enum config_events { CONFIG_EVENTS_AUTO, CONFIG_EVENTS_BPF, CONFIG_EVENTS_POLL };

struct config_node {
	int32_t node;
	uint32_t addr; /* IPv4, host order */
};

struct config {
	char interface[16]; /* "" : all */
	uint16_t port;	    /* bprocport */
	uint16_t data_port; /* dataport, of the front end's own slave and of all nodes */
	uint32_t ping_timeout_ms;
	bool image_encryption;
	enum config_events event_source;
	bool kill_from_nodes;
	uint32_t slot_pids; /* pidslot: a power of two; the slots get smaller if they must */
	int log_facility;   /* -1: stderr only */
	char keyfile[CONFIG_PATH_MAX];
	char node_up[CONFIG_PATH_MAX]; /* "" : none */
	char state_dir[CONFIG_PATH_MAX];
	uint32_t nodes_limit; /* nodes: 0 if not given */
	uint32_t count;
	struct config_node *node; /* owned; ascending by number */
};

/* 0, or -errno with "file:line: what" in err. */
int config_load(const char *path, struct config *ret_config, struct bproc_err *err);
/* The same of a text in memory; path is for the messages. */
int config_parse(const char *path, const char *text, size_t len, struct config *ret_config,
		 struct bproc_err *err);
void config_free(struct config *c);
