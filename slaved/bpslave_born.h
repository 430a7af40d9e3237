/*
 * Births on a node: what the files of it share (bpslave of a node only;
 * doc/born.md).
 *
 *	bpslave_born.c	 the table: who was born here, what the master has heard of it
 *	bpslave_all.c	 all of them at once: compared with /proc, told again
 *	bpslave_away.c	 those of them that leave and come by a move
 *	bpslave_tell.c	 when and how the master hears of it
 *	bpslave_look.c	 what has to be looked for: stops, other groups and ids
 *	bpslave_place.c	 groups and sessions that others have to know
 *	bpslave_scan.c	 /proc of the node's pid namespace
 *	bpslave_zombies.c which of those that have ended were waited for, when that was lost
 *	bpslave_source.c where the news come from: the event program, or looking again
 */
#pragma once

#include "bpf/events.h"
#include "slaved/bpslave.h"

#define BORN_TABLE_MAX 16384 /* processes of the node that are kept in mind */
#define BORN_TOLD_MAX 12000  /* of them with a ghost at home */
#define BORN_BURST 64	     /* births that are told at once ... */
#define BORN_RATE 200	     /* ... and so many more each second; the others wait ... */
#define BORN_WAIT_MS 20	     /* ... so long, in case they end in the meantime; then ... */
#define BORN_BRIEF 3	     /* so many of a parent in a row have: the next one waits too */
#define BORN_ROUND 64	     /* ... at most so many each BORN_WAIT_MS */
#define BORN_MESSAGE 32	     /* births in one message */

/* One process, as /proc of the namespace has it. */
struct scan_proc {
	int32_t pid, ppid, pgid, sid;
	uint32_t uid, euid, suid, gid, egid;
	char comm[16];
	char state;	/* R S D T t Z X; not Z as long as one of its threads lives */
	int32_t status; /* of a zombie, as of wait(); 0 where the kernel will not say */
	struct chan_used used;
	uint64_t stack; /* where its stack begins: another one after each exec */
	bool ours;	/* a clone of bpinit's that is nobody yet, or a skeleton (local.md) */
};
/* The namespace of this process; its number in ours. 0 or -errno. */
int scan_open(int32_t init_host_pid, uint32_t *ret_inode);
int scan_open_home(void); /* the front end's own */
void scan_close(void);
int scan_stat(int32_t pid, struct scan_proc *ret);
bool scan_is_dying(int32_t pid); /* a SIGKILL waits for it, or it is past that */
int scan_ids(int32_t pid, struct scan_proc *ret); /* uid ... egid; pid: of a thread, its process */
int scan_status(int32_t pid, char *buf, size_t size); /* its /proc/PID/status; 0 or -errno */
/* Bytes, at most size; 0: none, or it has gone. */
size_t scan_args(int32_t pid, char *buf, size_t size);
/* fn for each process but bpinit and what it is just making. 0 or -errno. */
int scan_each(void (*fn)(const struct scan_proc *p, void *arg), void *arg);

/* A process of the node. */
struct born {
	LIST_ENTRY(born) next;
	TAILQ_ENTRY(born) queue, look;
	int32_t pid, ppid, pgid, sid;
	uint32_t uid, euid, suid, gid, egid;
	uint32_t reaper; /* NAME_REAPER_* */
	char comm[16];
	uint64_t stack;
	uint64_t since;	  /* ms; when it was put into the table */
	uint64_t due;	  /* ms; in the queue */
	uint64_t missed_at; /* ms; when it was not in /proc any more: 0: it is */
	uint64_t orphaned_at; /* ms; 0: its group was not */
	uint64_t look_at; /* ms; in the list of those to be looked at */
	uint32_t told_again; /* number of the last time that all were */
	uint32_t seen;	  /* number of the last scan that found it; 0: none has */
	int32_t status;	  /* ended: as of wait() */
	struct chan_used used; /* ended; zeros: not known */
	uint64_t seq;	  /* ended: of bpinit's word on it, which is kept until EventAck; or 0 */
	int32_t stop;	  /* the signal that stopped it, as far as it is known */
	int looks;
	int brief;	  /* of its children so many in a row ended within BORN_WAIT_MS */
	bool moved;	      /* it came by a move, or stands in: bpinit tells of it */
	bool away;	      /* a ghost here; real elsewhere */
	bool leaving;	      /* it has asked to be: what was not decided yet */
	bool stale;	      /* it has exec'd: ids and name are to be read again */
	bool changes;	      /* its ids are looked at too */
	bool told;	      /* the master knows it */
	bool before_us;	      /* found by the first scan: a bpslave before us may have told it */
	bool queued, looked;  /* it is in the list */
	bool tell, end, reap; /* what is to be told */
	bool silent;	      /* it is not told that it was reaped */
	/* Its parent arrives: if that one's ghost waits for it here before, it is made anew as a
	 * zombie, and the news of its end, of that and of the other's come when all is done. */
	bool anew;
	bool ended, stopped;
	uint32_t place;	 /* number of the last word to home of its group and session */
	bool place_due;	 /* that has not been answered */
	bool was_stopped; /* was told so ever, maybe by a bpslave before us */
	uint32_t asked;	 /* bpinit's number of its call, which waits for that; 0: none does */
	bool foreseen;	 /* pgid and sid are what its call will make them, ... */
	int32_t old_pgid, old_sid; /* ... these what they are until then */
	uint64_t parked; /* the move that will say whether it is away; 0: none */
	bool guessed;	 /* it has gone, and nobody has said how it ended */
};
TAILQ_HEAD(born_list, born);

/* -- bpslave_tell.c */
/* In the order in which they come here; now: without the wait for an early end. */
void tell_later(struct born *b, bool now);
void tell_never(struct born *b);
/* Whatever there is to be told of it, now. Frees it if it is reaped. */
void tell_now(struct born *b);
/* Births are gathered: what is left of them. */
void tell_rest(void);
void tell_everything(void);
void tell_children(int32_t ppid); /* those whose birth waits: now */
void tell_event(const struct born *b, uint32_t code, int32_t status);
void tell_end(const struct chan_child *c, uint64_t seq); /* seq 0: nobody keeps it */
void tell_reaped(int32_t pid);
bool tell_token(void);

/* -- bpslave_look.c */
void look_soon(struct born *b);
void look_now(struct born *b);	/* if it is to be looked at: who is told by others is about to go */
void look_free(struct born *b); /* it has ended: until its number is free */
void look_never(struct born *b);
bool look_is_zombie(const struct born *b); /* of one that a move made: nobody has waited for it */
void look_state(struct born *b, char state); /* as /proc has it now */
/* Its stop or continue again, for what was told may be lost. A ghost does none twice. */
void look_told(struct born *b);

/* -- bpslave_born.c, for the sources and the other files */
void born_ended(struct born *b, int32_t status);
struct born *born_find(int32_t pid);
struct born *born_add(int32_t pid); /* NULL: there is no room */
/* fn may forget its b. */
void born_each(void (*fn)(struct born *b, void *arg), void *arg);
void born_seen(struct born *b);	   /* it is there: a scan that does not find it is right */
void born_anew(struct born *b);	   /* its number is a ghost's of one that has ended */
void born_missed(struct born *b);  /* it has gone from /proc. Frees it, if it is time */
void born_reaped(struct born *b);  /* it has ended, and its number is free */
void born_renamed(struct born *b); /* it looks other than was told */
void born_read(struct born *b);	   /* again from /proc: name and ids */
void born_forget(struct born *b);  /* in no list any more, and freed */
bool born_room(void);		   /* for one more at home; if so it is counted */
void born_overflow(void);
void born_record(const struct event_record *r);
/* All there was has been recorded. */
void born_flush(void);
/* Compares the table with /proc. */
void born_scan(void);
void born_clear(void);

/* -- bpslave_place.c */
/* Is its place another than was told? late: what was foreseen would have come. */
bool place_differs(struct born *b, const struct scan_proc *p, bool late);
void place_tell(struct born *b, bool changed); /* to home: its group and session; or again */

/* -- bpslave_source.c */
/* Takes what is there now, not when its turn comes. */
void source_take(void);
void source_take_events(void); /* as far as it is told by events: no scan */
/* Something has ended: worth a look where nothing else says so. */
void source_hint(void);
