/*
 * bplab: a whole cluster on one machine. Three kinds of process, all of them
 * this one program:
 *
 *   outer   what the user started; relays the terminal and signals, and waits
 *   lab     pid 1 of the lab's pid namespace, with the bridge in its network
 *           namespace; starts places and daemons, serves the control socket
 *   place   pid 1 of the front end or of a node, in namespaces of its own
 *
 * Everything hangs on the lab's pid namespace: when the lab's pid 1 ends, the
 * kernel kills the rest, and the tmpfs, mounts and interfaces go with the last
 * process. Nothing is ever made outside these namespaces.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libbproc/sysio.h"

#define LAB_DIR "/run/bplab" /* a tmpfs of the lab, seen by all places */
#define LAB_CONTROL LAB_DIR "/control"
#define LAB_NOTIFY LAB_DIR "/notify"
#define LAB_CONFIG LAB_DIR "/config"
#define LAB_KEY LAB_DIR "/key"
#define LAB_LOG LAB_DIR "/log"

#define LAB_STATE LAB_DIR "/state"

#define LAB_NODES_MAX 250
#define LAB_MASTER (-1)
#define LAB_ADDR(n) (0x0a4d0101u + (unsigned)(n)) /* 10.77.1.1 + n */
#define LAB_MASTER_ADDR 0x0a4d0001u		  /* 10.77.0.1 */
#define LAB_CONFIG_MAX 64			  /* lines of -o */
#define LAB_WAIT_MS 15000			  /* default bound for "all nodes are up" */

/* Exit statuses of bplab's own, as env(1) and timeout(1) have them. */
#define LAB_EXIT_FAIL 125
#define LAB_EXIT_NOEXEC 126
#define LAB_EXIT_NOTFOUND 127

struct lab_opts {
	int nodes;
	int wait_ms;
	bool bare;	     /* namespaces only, no daemons */
	bool verbose;	     /* daemons log more */
	bool pty;	     /* COMMAND gets a terminal of the lab's own */
	bool userns;	     /* set by outer: the lab has a user namespace of its own */
	const char *log_dir; /* or NULL: logs go with the lab */
	const char *config[LAB_CONFIG_MAX]; /* KEY=VALUE */
	int nconfig;
	char **command; /* NULL: the user's shell */
	char exe[4096]; /* this program */
	char bin[4096]; /* its directory */
};

enum lab_type {
	/* lab -> place */
	PLACE_NET = 1, /* the interface is there: set it up, answer PLACE_READY */
	PLACE_SPAWN,   /* role; argv and environment in text; three fds */
	PLACE_KILL,    /* role, value: signal */
	/* place -> lab */
	PLACE_READY,   /* value: 0, or errno with text */
	PLACE_STARTED, /* role; value: errno of a failed start, with text; a pty's fd */
	PLACE_EXITED,  /* role, value: wait status */
	/* outer <-> lab */
	OUTER_GO,     /* outer -> lab: ids are mapped */
	OUTER_SIGNAL, /* outer -> lab; value: for COMMAND */
	OUTER_PTY,    /* lab -> outer: fd of the terminal's master side */
	OUTER_EXIT,   /* lab -> outer; value: exit status of bplab */
	/* client -> lab, answered by CTL_ANSWER: value is the client's exit status */
	CTL_KILL,
	CTL_START,
	CTL_CUT,
	CTL_HEAL,
	CTL_STOP_DAEMON, /* role, value: signal */
	CTL_START_DAEMON,
	CTL_RESTART_DAEMON,
	CTL_EXEC, /* three fds */
	CTL_STATUS,
	CTL_ANSWER,
};

enum lab_role {
	ROLE_MASTER = 0,
	ROLE_SLAVE = 1,
	ROLE_DAEMONS = 2,
	ROLE_COMMAND = 2,
	ROLE_WAIT = 3,
	ROLE_EXEC = 16, /* and up: one for each CTL_EXEC */
};

#define SPAWN_PTY 1u	 /* open a terminal, send its master with PLACE_STARTED */
#define SPAWN_COMMAND 2u /* argv is opts->command */
#define KILL_CRASH 1u	 /* CTL_KILL: the node's connections are closed, not silent */

#define LAB_TEXT_MAX (120 * 1024)
struct lab_msg {
	uint32_t type;
	uint32_t flags;
	int32_t node;
	int32_t role;
	int32_t value;
	uint32_t nargs; /* strings in text: first arguments */
	uint32_t nenv;	/* then NAME=VALUE */
	uint32_t len;	/* of text */
	char text[LAB_TEXT_MAX];
};

/* bplab_util.c */
const char *lab_name(int node);	   /* "n3" or "master"; in a buffer of four that rotate */
const char *lab_ip(uint32_t addr); /* likewise */
int lab_send(int sock, struct lab_msg *m, const int *fds, int nfd);
int lab_recv(int sock, struct lab_msg *m, struct sysio_pkt *pkt);
int lab_add(struct lab_msg *m, const char *s, bool env);
void lab_text(struct lab_msg *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Runs argv with text as its standard input; 0, or -errno after a line on stderr. */
int lab_run(const char *const argv[], const char *input);
/* The whole of arg as a number in the bounds; -1, and a warning, if it is none. */
int lab_number(const char *arg, double min, double max, double *ret);
void lab_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int lab_exit_of(int wait_status);
/* How ps shows a pid 1 of ours. lab_title_room() first, by main(), which then has argv copied. */
char **lab_title_room(int argc, char **argv);
void lab_title(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int lab_parse_node(const char *s, int *ret_node); /* "3", "n3", "master", "-1" */

/* bplab_user.c: user namespaces, and why they are refused */
bool user_is_privileged(void);
int user_map(pid_t pid);
void user_explain(int err, const char *what);

/* bplab_outer.c */
int outer_run(struct lab_opts *o);

/* bplab_setup.c: what a lab and a place see */
int setup_lab(const struct lab_opts *o);
int setup_place(const struct lab_opts *o, int node);

/* bplab_net.c: bridge and cables; called by the lab, in its network namespace */
int net_bridge(void);
int net_cables(int first, int count, const pid_t *pids);
void net_unplug(int node);
int net_cut(int node, bool cut);
int net_place(int node); /* by the place itself: its end of the cable */

/* bplab_place.c: pid 1 of a place; never returns */
void place_main(const struct lab_opts *o, int node, int sock) __attribute__((noreturn));

/* bplab_lab.c: pid 1 of the lab; never returns */
void lab_main(struct lab_opts *o, int sock) __attribute__((noreturn));

/* bplab_client.c: subcommands inside a lab; NULL-terminated argv from its name on */
bool client_knows(const char *name);
int client_main(int argc, char **argv);
/* bplab_wait.c */
int wait_main(int argc, char **argv);
