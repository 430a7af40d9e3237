/*
 * Inside the lab's pid 1: its state, shared by the loop (bplab_lab.c), the
 * control socket (bplab_ctl.c) and the environments (bplab_env.c).
 */
#pragma once

#include <poll.h>

#include "bplab.h"

#define CTL_CLIENTS_MAX 64

enum place_state { PLACE_OFF, PLACE_MAKING, PLACE_UP };
enum daemon_state { DAEMON_OFF, DAEMON_RUNS };
enum lab_phase { PHASE_PLACES, PHASE_MASTER, PHASE_SLAVES, PHASE_COMMAND };

struct lab_place {
	int node;
	pid_t pid; /* of its pid 1, in the lab's pid namespace */
	int sock;
	enum place_state state;
	enum daemon_state daemon[ROLE_DAEMONS];
	bool cut;
};

struct lab {
	struct lab_opts *opts;
	int outer;
	int notify;
	enum lab_phase phase;
	int64_t master_deadline; /* ms; 0: none */
	struct lab_place place[LAB_NODES_MAX + 1];
};
extern struct lab lab;

static inline struct lab_place *lab_at(int node)
{
	return &lab.place[node + 1];
}

int lab_make_places(int first, int count);
int lab_start_daemon(struct lab_place *p, int role, const char *env, uint32_t nenv);

/* bplab_env.c */
int64_t lab_now_ms(void);
void lab_slave_args(struct lab_msg *m, int node);
void lab_set_env(void);

/* bplab_ctl.c: each client has one request, answered once */
int ctl_listen(void);
int ctl_poll_add(struct pollfd *pfd); /* how many */
void ctl_poll_done(const struct pollfd *pfd);
void ctl_place_up(struct lab_place *p);
void ctl_place_gone(struct lab_place *p);
void ctl_started(struct lab_place *p, const struct lab_msg *m);
void ctl_exited(struct lab_place *p, const struct lab_msg *m);
void ctl_master_ready(void);
