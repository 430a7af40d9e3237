/*
 * bpslave: one process, one libevent loop, one struct slave. Each part of it has
 * a file; what a part offers to the others is below, under the file's name.
 */
#pragma once

#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "include/sys/bproc_common.h"
#include "libbproc/link.h"
#include "libbproc/local.h"
#include "libbproc/foreign.h"
/* libevent has a macro of the name of one of bpinit's events. */
enum { LOOP_SIGNAL = EV_SIGNAL };
#undef EV_SIGNAL
#include "slaved/initproto.h"

#define NODE_MASTER (-1)
#define NODE_SELF (-2)
#define NODE_NONE (-3)
#define HOME_NODE NODE_MASTER /* of every process, in this version */

#define PING_DEFAULT_MS 30000 /* until a Welcome has said it */

struct slave_opts {
	bool front_end;
	bool to_stderr;
	const char *master; /* address or name */
	const char *config; /* front end only */
	const char *key_file;
	const char *cpu;    /* "any", a number, or NULL: the last one */
	const char *bpinit; /* path, or NULL: beside our own binary, else libexecdir */
	uint16_t port, data_port;
	struct in_addr local_addr; /* 0: any */
};

struct node_row {
	int32_t node;
	uint32_t mode, uid, gid;
	uint32_t addr; /* host order; 0: never connected */
	uint16_t data_port;
	uint64_t life; /* another one when the node has been started anew */
	char status[16], reason[104];
};

struct slave {
	struct event_base *base;
	struct slave_opts opt;
	struct cluster_key key;
	SSL_CTX *ctx;

	/* bpslave_master.c */
	int32_t node; /* NODE_NONE until the first Welcome, unless front end */
	uint32_t epoch, ping_timeout_ms;
	bool encrypt;
	struct node_row *table; /* owned */
	size_t ntable;
	bool table_whole; /* a master has said so since we began */
	int32_t lease_lo, lease_hi, lease_next;
	uint32_t event_source; /* enum config_events, as the master has it */
	bool kill_from_nodes;
};

extern struct slave slave;

/* -- bpslave_loop.c: events, one line instead of four. NULL on failure, with errno. */
struct event *watch_fd(int fd, short what, event_callback_fn fn, void *arg);
struct event *new_timer(event_callback_fn fn, void *arg);
void start_timer(struct event *ev, uint32_t ms);
void free_event(struct event **ev);
uint64_t now_ms(void);

/* -- bpslave_master.c: the link to the master; table replica; what the master says. */
int master_start(struct bproc_err *err);
void master_stop(void);
/* Queues a message to the master; false if there is no link (it is then lost). */
bool master_send(const void *msg);
bool master_send_later(const void *msg); /* nobody waits for it: with the next one */
bool master_is_up(void);
bool master_may_come(void); /* it is up, or was a moment ago */
/* What bpinit had of processes is dead, as the master may have ordered. */
void master_fenced(void);
/* bpinit was lost and another one made: the master has to hear it in a new Hello. */
void master_reconnect(void);
uint32_t master_addr(void); /* of the master, host order */
const struct node_row *table_find(int32_t node);
/* What a Proc message must hold for one of our pids. */
#define PROC_OF(name, number)                                                                      \
	Bproc__Proc name = BPROC__PROC__INIT;                                                      \
	name.home = HOME_NODE, name.epoch = slave.epoch, name.pid = (number),                      \
	name.gen = gen_of(number)
/* Generation numbers, as far as the master has told them. */
uint32_t gen_of(int32_t pid);
/* The same to bpinit (init_msg.use); 0 if it is not of this master's counting. */
uint64_t use_of(const Bproc__Proc *proc);
void gen_note(const Bproc__Proc *proc);
void gen_forget(int32_t pid);
/* CLD_STOPPED or CLD_CONTINUED: what its ghost here was told to show last; 0: not known */
int32_t shown_of(int32_t pid);
void gen_forget_all(void); /* another master: they were the last one's */

/* -- bpslave_init.c: the link to bpinit */
int init_start(struct bproc_err *err);
void init_stop(void);
/* bpslave_start.c: a program of ours: beside our own binary (build tree), else in libexecdir. */
void program_beside(const char *name, char path[PATH_MAX]);
/* Are bpinit and bpdata there? A node without them would be up, and no call to it would end. */
int programs_check(struct bproc_err *err);
/* The id that names this bpinit in Hello: made before it is started, kept in a file beside it. */
const char *init_id(void);
/* Welcome is here: bpinit may be started, with these clocks' offsets if they are not 0. */
void init_want(int64_t mono_off_ns, int64_t boot_off_ns);
bool init_is_up(void);
bool init_is_connected(void); /* is it there already, as an earlier bpslave had it */
/* What bpinit has said up to now is known when this returns. Of the loop, not in its events. */
void init_take(void);
int32_t init_pid(void); /* as we see it; 0: there is none */
/* Copies; the fds are not closed. Kept and sent in order if the socket is full. */
void init_send(const struct init_msg *m, const int *fds, int nfd);
/* Soon, all that bpinit holds: the master may have missed some. */
void init_tell_again(void);
/* Asks bpinit for all it holds and has not been told to forget: after a Welcome. */
void init_resync(void);
void init_fence(void);
/* All is well for so long; after that bpinit fences the node by itself. */
void init_alive(uint32_t ms);
/* bpslave_start.c */
void start_bpinit(int64_t mono_off_ns, int64_t boot_off_ns);
void id_new(void);
void id_read(void);
void id_write(void);
/* bpslave_heard.c: what bpinit says. It may let this event go: it is safe elsewhere. */
void init_done(uint64_t seq);
bool init_has_processes(void);

/* -- bpslave_local.c: node.sock */
int local_start(struct bproc_err *err);
void local_stop(void);
void local_answer(uint32_t client, uint32_t id, uint16_t type, const void *payload, size_t len);
void local_error(uint32_t client, uint32_t id, uint16_t type, int err, const char *text);
/* How many of its questions the master has not answered; NULL: it has gone. */
uint32_t *local_asks(uint32_t client);

/* -- bpslave_query.c: questions about nodes and processes, each answered by one packet */
int query_start(void);
void query_stop(void);
void query_nodes(uint32_t client, const struct local_hdr *h);
void query_pid(uint32_t client, const struct local_hdr *h, const struct local_pid *p);
void query_procs(uint32_t client, const struct local_hdr *h, const struct local_procs_ask *p);
void query_setnode(uint32_t client, const struct local_hdr *h, struct local_setnode *s, uid_t uid);
void query_client_gone(uint32_t client);
void query_on_answer(const Bproc__Answer *a);
void query_used(uint32_t client, const struct local_hdr *h, const struct local_pid *p);
void query_on_used(const struct init_msg *m);
void query_init_lost(void);
void query_on_procs(const Bproc__ProcsTell *t);
/* Who sets a node's state and asks for it then is to see what was set. */
void query_on_table(void);
/* Questions wait for a link; there is one, or has been none for too long: */
void query_ask_again(void);
void query_no_master(void);

/* -- bpslave_stats.c: what the real processes of a node use up, from its /proc */
void stats_ask(uint32_t client, uint32_t id, const struct local_stats_ask *ask);
void stats_on_ask(const Bproc__StatsAsk *a);
void stats_on_tell(const Bproc__StatsTell *t);
void stats_on_table(bool partial);
void stats_link_lost(void); /* they wait for the next one */
void stats_ask_again(void);
void stats_no_master(void);

/* -- bpslave_proc.c: who asks, from /proc and the kernel */
struct proc_ids {
	int32_t host_pid, host_ppid; /* as bpslave sees them */
	int32_t pid, pgid, sid;	     /* in the innermost namespace: the cluster's */
	int32_t ns_depth;	     /* 1: the namespace of /proc itself */
	uint32_t uid[4], gid[4];
	uint32_t ngroups, group[CHAN_NGROUPS]; /* ngroups may be larger: not all are here */
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint32_t no_new_privs;
	uint32_t seccomp, filters; /* its mode; how many there are, the node's own too */
	uint32_t threads;
	uint64_t peak_kb; /* of its memory */
	char comm[16];
};
struct proc_chain {
	int n;
	int32_t ppid; /* of the one that leaves, 0: none that the cluster knows; not of a fork */
	struct init_chain member[INIT_CHAIN_MAX];
};
/* The text of /proc/PID/status; 0 or -EBADMSG if a field of struct proc_ids is not in it. */
int proc_parse_status(const char *text, struct proc_ids *ret_ids);
/* -- bpslave_limits.c */
int proc_parse_limits(const char *text, uint64_t ret_rlim[16][2]);
int proc_read_limits(int32_t host_pid, uint64_t ret_rlim[16][2]);
int proc_read_ids(int32_t host_pid, struct proc_ids *ret_ids);
/* Credentials, limits and nice of a process, by what is in ids and three system calls. */
int proc_read_cred(const struct proc_ids *ids, struct chan_cred *ret_cred);
/*
 * Parent, ancestors up to the session leader, and the leaders of their groups, top first, for
 * a process that leaves (or, with child, for one that it forks). -E2BIG: too deep.
 */
int proc_read_chain(const struct proc_ids *ids, bool child, struct proc_chain *ret_chain);
/* Adds its children that it has not waited for, zombies too. */
int proc_read_children(const struct proc_ids *ids, struct proc_chain *chain);
/* By the cluster's number; 0 or -errno. */
int proc_read_leader(int32_t pid, struct init_chain *ret);
bool proc_is_cluster(const struct proc_ids *ids);

/*
 * -- bpslave_exec.c: which nodes have the file that a process executes. An image
 * may then refer to it: its clean pages need not be sent. Learned from moves.
 */
struct exec_file {
	char path[256]; /* "": none, or too long to be worth it */
	uint64_t size;
	int64_t mtime_ns;
};
void exec_of(int32_t host_pid, struct exec_file *ret_file);
bool exec_is_here(const Bproc__ExecFile *file);
bool exec_is_on(int32_t node, const struct exec_file *file);
void exec_note(int32_t node, const struct exec_file *file, bool has_it);

/* -- bpslave_move.c: moves, steps of the source */
void move_ask(uint32_t client, uint32_t id, const struct local_move *ask, const struct ucred *asker,
	      int chan);
void move_child(uint32_t client, uint32_t id, int32_t pid); /* of the rfork asked under id */
void move_client_gone(uint32_t client);
void move_on_grant(const Bproc__MoveGrant *m);
void move_on_deny(const Bproc__MoveDeny *m);
void move_on_commit(const Bproc__MoveCommit *m);
void move_on_abort(const Bproc__MoveAbort *m);
/* One of EV_HERE, SENT, FAILED, READY, RAN, VOIDED, GHOST, or EV_STATE of a move. */
void move_on_init(const struct init_msg *m);
/* bpslave_again.c */
void move_link_lost(void);
void move_ask_again(void); /* a link is there, and all has been told */
void move_no_master(void); /* nor has there been one for the ping timeout */
void move_init_lost(void);
/* After bpinit's state: the granted ones, of which bpinit may not know that they are. */
void move_tell_granted(void);

/* -- bpslave_after.c */
struct after;
/* The move of pid has committed. NULL: no memory, and nothing waits. */
struct after *after_begin(int32_t pid);
void after_end(struct after *a); /* it is a ghost, or there is none; NULL is nothing */
/*
 * To bpinit: about a pid whose process may have left a moment ago. If it has not become a ghost
 * yet, it is sent when it has: an end can overtake that, and so can the process, coming back; and
 * then what is said of those that come with it goes behind its INIT_ARRIVE.
 */
void move_after_ghost(const struct init_msg *m);

/* -- bpslave_target.c: the same, of the target */
void target_on_start(const Bproc__MoveStart *m);
void target_new_epoch(void); /* Welcome of a master that did not grant what is waited for */
void target_on_void(const Bproc__MoveVoid *m);
bool target_on_init(const struct init_msg *m); /* false: it is not of a move to here */
void target_on_state(const struct init_msg *m);
void target_init_lost(void);
/*
 * A process that has just come, and runs, may ask to leave before bpinit's word that it runs has
 * been read here. True: the question is asked again when it has, and chan belongs to it.
 */
bool target_defer(uint32_t client, uint32_t id, const struct local_move *ask,
		  const struct ucred *asker, int chan);
/* So many have their image and are not known to run: they may, and have children. */
extern uint32_t target_unheard;
bool target_expects(int32_t pid); /* its move to here is announced, and not over */
/* Likewise the announcement of its child. False: no such question waits. */
bool target_defer_child(uint32_t client, uint32_t id, int32_t pid);

/* -- bpslave_peer.c: links between bpslaves, for streams */
struct peer;
void peer_start(void);
void peer_stop(void);
void peer_accept(int fd); /* from the data port; the fd belongs to it */
/* The table has changed: a node keeps a link to home. */
void peer_refresh(void);
struct peer *peer_home(void); /* NULL while it is not up */
int32_t peer_node(const struct peer *p);
/* False: do not send more until stdio_peer_drained. */
bool peer_send(struct peer *p, const void *msg);
bool peer_send_later(struct peer *p, const void *msg);
bool peer_is_full(const struct peer *p);

/*
 * -- bpslave_stdio*.c: forwarded stdin, stdout, stderr (doc/streams.md). An arg that is given
 * with then is malloc'd: it is freed, and then not called, if a later call takes its place.
 */
/* Three pipes, or at home socketpairs: theirs go to a process or ghost. */
struct stdio_fds {
	int ours[CHAN_STREAMS], theirs[CHAN_STREAMS];
};
struct stdio_of {
	size_t n;
	int32_t pid[INIT_CHAIN_MAX];
};
int stdio_fds_make(struct stdio_fds *ret);
void stdio_fds_close(struct stdio_fds *f);
/* A set is made ahead, for the next time: now nobody waits. */
void stdio_fds_spare(void);
/*
 * An arrival runs here: its streams are opened to home. fresh: it was on no other node before.
 * of: its ancestors if home may not know it: its output joins that of the first one that home
 * knows. Takes f->ours.
 */
struct stdio_visit {
	uint64_t move, after; /* by which it came; and to the node before, if that has streams */
};
/* child: of an rfork, which seldom reads. */
void stdio_arrived(int32_t pid, bool fresh, bool child, const struct stdio_visit *v,
		   const struct stdio_of *of, struct stdio_fds *f);
/* Node: the move by which a process came of which there are streams here; 0: there are none. */
uint64_t stdio_visit(int32_t pid);
/*
 * Which of a process's fds 0..2 are streams: CHAN_GO_STREAM_* without the shift. False: it has a
 * pipe there that is none, of those that are known.
 */
bool stdio_streams_of(int32_t host_pid, uint32_t *ret_map, int32_t ret_saved[CHAN_STREAMS]);
/*
 * A process of ours is parked and will run elsewhere: what it wrote goes out; and the end, for that
 * move, once it is granted (until then: 0).
 */
void stdio_departing(int32_t pid, uint64_t move);
/* It stays after all; or it left for good, and all is let go when the last byte has gone. */
void stdio_stays(int32_t pid);
void stdio_departed(int32_t pid);
/* The real process has ended: then(arg) once all it wrote has been sent to home. */
void stdio_exited(int32_t pid, void (*then)(void *arg), void *arg);
/* Node: bpinit has ended, and every process with it; nobody tells of their exits. */
void stdio_init_lost(void);

/* Home: a process has left; the ends of its ghost's sockets are in f->ours, which it takes. */
void stdio_left_home(int32_t pid, struct stdio_fds *f);
/*
 * Home: then(arg) once all of the process's output up to its end, or its departure, is in its
 * ghost's sockets. move: by which it comes home; 0: it has ended, and these are shut down. visit:
 * where that was, by the move by which it had come there (0: wherever). At once if it has no
 * streams here.
 */
void stdio_flush_home(int32_t pid, uint64_t move, uint64_t visit, void (*then)(void *arg),
		      void *arg);
/*
 * Home, after stdio_flush_home: the process comes home to its ghost, which gets what of its stdin
 * was not read: ret[0]: a file with the bytes that are here, or -1; ret[1]: the far end of the
 * ghost's own stream 0, or -1. If it does not come after all, its node opens its streams again.
 */
void stdio_homecoming(int32_t pid, int ret[CHAN_STREAMS]);
/* Home: the process has come home or is dead; its streams are closed. */
void stdio_forget_home(int32_t pid);
/* Home: a ghost whose sockets a bpslave before us had: its node's streams are reset. */
void stdio_lost(int32_t pid);

void stdio_table_changed(void);
void stdio_peer_up(struct peer *p);
void stdio_peer_down(struct peer *p);
void stdio_peer_drained(struct peer *p);
void stdio_on_msg(struct peer *p, const Bproc__Envelope *env);

/* -- bpslave_chain.c: relatives; chain_put's message keeps the name of c. */
void chain_put(const struct init_chain *c, Bproc__Chain *to);
void chain_take(const Bproc__Chain *c, struct init_chain *to);
/* Those of one that is to arrive, into INIT_ARRIVE: 0, or -E2BIG. */
int chain_take_all(const Bproc__MoveStart *s, struct init_msg *m);
/* Its parent first; leaders that are no ancestors are in the chain too. */
void chain_ancestors(const Bproc__MoveStart *s, struct stdio_of *of);

/* -- bpslave_ask.c: who asks, and the question to the master */
struct asker {
	struct proc_ids ids;
	struct chan_cred cred;
	struct proc_chain chain;
	struct exec_file exec; /* path "": none */
	uint8_t *filters;      /* owned: its seccomp filters (vmadump/blob/filters.h) */
	size_t filters_len;
	uint64_t filters_id;
};
void asker_free(struct asker *a);
/*
 * 0, or -errno with the reason in text: who it is; then what it has and whom it needs. said: the
 * kernel's word on who sent the question.
 */
int asker_identify(struct asker *a, const struct ucred *said, char text[LOCAL_TEXT_MAX]);
int asker_read(struct asker *a, uint32_t kind, char text[LOCAL_TEXT_MAX]);
void move_tell_failed(uint64_t move, int err, const char *text, bool target);
void move_image_lost(uint64_t move); /* bpslave_move.c: some of it may not have been sent */
/* MoveState: an undecided move that is told to a master which may not know it. */
void move_tell_state(uint64_t move, uint32_t kind, int32_t target, int32_t pid, bool moved);

/*
 * -- bpslave_born.c, bpslave_source.c: processes that are born on a node (doc/born.md). They
 * must be told of everything that bpinit makes, since a clone looks like a birth.
 */
/* Its end is about to be told: its children's births, if they wait, are told now. */
void born_ends(int32_t pid);
/* An end that is about to be told: its child that was stopped, and is orphaned; 0: none. */
int32_t born_orphaned(int32_t pid);
/* A ghost here is to be shown as stopped by this signal; 0: as going on. */
void born_stands(int32_t pid, int32_t stop);
/* About to be made here, ghost or arrival. */
void born_expect(int32_t pid, int32_t ppid, int32_t pgid, int32_t sid);
void born_expects_no_more(void); /* an arrival has come, or will not */
void born_parked(int32_t pid, uint64_t move, bool moved);
void born_stays(uint64_t move);		      /* a move of born_parked() was aborted */
void born_is_here(int32_t pid);		      /* a scan that does not find it says: it has gone */
void born_left(int32_t pid);		      /* it is a ghost here now */
void born_came(int32_t pid, bool other_name); /* it runs here now; exec'd on the way */
void born_ran(int32_t pid);		      /* the same, by a move of a bpslave before us */
void born_state(const struct init_msg *m);    /* what bpinit holds: EV_STATE */
/* How one ended that bpinit does not know. True: the master is told, and answers with EventAck. */
bool born_child(const struct chan_child *c, uint64_t seq);
/* It asks to leave, or to have a child elsewhere: the master hears of all before that. */
void born_asks(int32_t pid, bool leaves);
void born_child_asks(int32_t pid, int32_t ppid); /* of an rfork */
/* Of those whose stops bpinit tells: they came by a move. */
bool born_has_stopped_child(int32_t pid);
void born_leaving(int32_t pid, bool leaves); /* it has asked, and was told; it is decided */
void born_tell_all(void);
bool born_is_ghost(int32_t pid); /* it stands in here for one that is real elsewhere */
void born_flush(void);
void source_start(int32_t init_pid);
void source_stop(void);
/* Home: ghosts for what was born elsewhere. */
void born_on_born(const Bproc__ProcBorn *m);
void born_on_reaped(const Bproc__ProcReaped *m);
/* Home: somebody was away, so look which zombies wait. A node: which of these it has not. */
void zombies_ask(void);
void zombies_on_tell(const Bproc__Zombies *m);

/* It changes its group, session or ids; or (NAME_REAPER_*) its role. A thread's number will do. */
void born_changes(int32_t tid, uint32_t reaper);

/* -- bpslave_kill.c: kill() on a node to what is not there, and home's part of it */
void kill_on_init(const struct init_msg *m);
void kill_on_kill(const Bproc__Kill *k);
void kill_on_killed(const Bproc__Killed *k);
void kill_again(void); /* home may have missed what was asked */

/* -- bpslave_place.c: groups and sessions, told to whom they concern */
void place_on_init(const struct init_msg *m);
void place_on_place(const Bproc__Place *p);
void place_again(void); /* a node may have missed some */

/* -- bpslave_event.c: signals, exits, mirrors between bpinit and the master */
void event_on_init(const struct init_msg *m);
/* Message Used; NULL: nothing is known. */
static inline Bproc__Used *used_msg(const struct chan_used *u, Bproc__Used *ret)
{
	bproc__used__init(ret);
	ret->utime_us = u->utime_us;
	ret->stime_us = u->stime_us;
	ret->maxrss_kb = u->maxrss_kb;
	return u->utime_us || u->stime_us || u->maxrss_kb ? ret : NULL;
}
void event_on_signal(const Bproc__Signal *m);
void event_on_signal_ack(const Bproc__SignalAck *m);
void event_on_ack(const Bproc__EventAck *m);
void event_on_mirror(const Bproc__Mirror *m);
void event_on_watch(const Bproc__Watch *m);
