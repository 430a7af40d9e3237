/*
 * One restore: the image's records in memory form, checked, and what is open for
 * them. All of it lies in the arena; pointers into the head stay valid.
 */
#pragma once

#include "blob.h"
#include "image.h"

struct rest_file {
	const char *path;
	const uint8_t *id; /* FILE_ID_MAX bytes: build-id, or size and mtime */
	uint32_t id_kind, id_len, flags;
	int32_t fd;
};

struct rest_vma {
	uint64_t start, end, off;
	uint32_t prot, kind, flags, file;
	const char *name;
	uint32_t nruns;
	uint64_t map_end; /* ANON_SHARED: of the last piece joined to it; else end */
	uint32_t fill;	  /* 1: something is read into it before it gets its prot */
	uint32_t live;	  /* 1: its pages went ahead, but for its runs and gaps */
};

struct rest_fd {
	int32_t fd, dup_of, opened;
	uint32_t kind, cloexec, oflags, stream, others;
	uint64_t offset;
	const char *path;
};

/* An open file without a path; restore_obj.c. */
struct rest_obj {
	uint32_t kind, contents; /* enum object_kind */
	const uint8_t *p;	 /* behind its head */
	uint32_t len, made;
	int32_t fd[2]; /* what it is open as; the second is a pipe's writing end, a socket's other
			*/
};

/* A record as found in STATE. */
struct rest_rec {
	const uint8_t *p;
	uint32_t len;
};
#define REST_TAGS (TAG_LAST + 1u)
#define tree_entry(r, i) ((r)->rec[TAG_TREE].p + TREE_HEAD + (uint64_t)(i)*TREE_ENTRY)

struct restore {
	struct blob *b;
	struct blob_restore *opt;
	uint8_t *head;
	uint64_t head_len, note_at, note_end;
	uint64_t nph, page_bytes;
	const uint8_t *phdrs;
	const uint8_t *need, *xsave, *auxv, *state;
	uint32_t xsave_len, auxv_len, state_len;
	struct rest_rec rec[REST_TAGS];
	struct rest_rec *xsaves; /* of each thread, the first one's first */
	struct rest_file *files;
	struct rest_vma *vmas;
	struct rest_fd *fds;
	uint32_t nfiles, nvmas, nfds, nobjs, nthreads;
	struct rest_obj *objs;
	/* Of a tree (tree.h): in the first its plan, and what it has made ahead of all others */
	uint32_t nplan, nmemory, index; /* index: of this one; 0: the first, or there is no tree */
	struct restore *first;		/* in all others */
	uint32_t *birth, stays;		/* sessions that they are born in; 1: it keeps its own */
	int32_t *memory;
	uint64_t live_id;    /* of what went ahead; 0: nothing */
	const uint8_t *gone; /* its gaps, 16 bytes each */
	uint32_t ngone;
	const uint8_t *foreign; /* where in NEED another kernel's vdso is; NULL: it is this one's */
	uint32_t specials, new_vdso; /* 1: the kernel maps it anew where the image has it */
	int32_t cwd_fd, fd_base;
	uint32_t had; /* which of 0 to 2 were open here: bits */
	uint32_t locked; /* bytes of TAG_LOCKS: it has those */
	uint32_t queued; /* 1: the signals that were pending for the process may be */
	uint8_t end[IMAGE_END_NOTE];
};

/* The image is not one, or damaged, or cut short. Fills err, returns -EBADMSG. */
long rest_bad(struct restore *r, const char *what);

/* restore_parse.c: notes and records; nothing but the arena is touched. */
long rest_parse(struct restore *r);
long rest_parse_objects(struct restore *r); /* restore_parse_obj.c */
long rest_parse_guards(struct restore *r);
long rest_parse_more(struct restore *r);
long rest_parse_tree(struct restore *r);    /* restore_parse_tree.c */
long rest_end(struct restore *r);	    /* is r->end an end mark? */
/* restore_check.c: can this machine and process take it? Opens the files that it maps. */
long rest_check(struct restore *r);
long rest_place(struct restore *r);  /* before that: root directory, filters */
void rest_groups(struct restore *r); /* restore_group.c: cgroups, where there are such */
/* The working directory, and descriptors that are opened by path. */
long rest_open(struct restore *r);
void rest_close(struct restore *r);

/*
 * restore_tree.c. The first clones all others, which do not return; comes back when it is
 * its turn to be restored. The rest is for who opens, maps, and is done.
 */
long rest_tree(struct restore *r);
void tree_room(struct restore *r);
long tree_fd_open(struct restore *r, struct rest_fd *f);
/* Of the first of one that moves: what it has for the others it keeps, until it runs. */
void tree_keep(struct restore *r);
long tree_memory(struct restore *r, uint32_t object); /* < 0: there is none */

/* guard.c; more.c: of sockets that are open; when all threads are there; of memory */
long rest_guards(struct restore *r);
void rest_more_sockets(struct restore *r);
long rest_more(struct restore *r);
void rest_more_mm(struct restore *r);

/* restore_live.c: what went ahead of the image, and was put aside (live.h). */
long rest_parse_live(struct restore *r);
long rest_check_live(struct restore *r); /* all of it is there */
/* 1: the mapping is made; then what else of it is put aside; then the rest of that goes. */
int rest_map_live(struct restore *r, const struct rest_vma *v, long *ret);
long rest_map_rest(struct restore *r, const struct rest_vma *v);
void rest_live_end(struct restore *r);

/* restore_clock.c: CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from where they were. */
long rest_clocks(struct restore *r);

/* restore_vdso.c: can another kernel's vdso be had; it is mapped. */
long rest_foreign_vdso(struct restore *r);
long rest_map_foreign(struct restore *r);
/* to: as long as the image's; made from the image's, each function a jump into own. */
long rest_patch_vdso(struct restore *r, uint8_t *to, const uint8_t *own, uint64_t own_len);

/* restore_mem.c */
void rest_clear(struct restore *r); /* unmaps all that is not ours */
long rest_map(struct restore *r);
long rest_settle(struct restore *r); /* final protection and advice */
/* restore_fill.c: pages and end mark from the stream */
long rest_fill(struct restore *r);

/* restore_lazy.c: what follows the image is put under a userfaultfd */
long rest_lazy(struct restore *r);

/* restore_warm.c: is the memory of this image what w has mapped? Then its files are r's. */
int rest_take_warm(struct restore *r, struct restore *w);

/* restore_fd.c, restore_state.c */
long rest_mm(struct restore *r);
long rest_fds(struct restore *r);
long rest_creds(struct restore *r);
long rest_state(struct restore *r);
long rest_late(struct restore *r); /* its signals and timers, last of all */
/* restore_thread.c: makes the other threads; each is parked when this comes back. */
long rest_threads(struct restore *r);
/* Scheduling of thread i, counted from the first one, for the calling thread. */
void rest_sched(const struct restore *r, uint32_t i);
/* restore_signal.c: the signals that were pending for thread was, 0: for the process. */
long rest_pending(struct restore *r, int32_t was, int32_t tid);
long rest_signals(struct restore *r); /* what they do; the mask is known */
/* restore_undo.c: timers of this process, and what rest_pending() has queued, are gone. */
void rest_drop_timers(struct blob *b);
void rest_unqueue(const struct restore *r, int32_t whose);
/* restore_check.c: a number that no descriptor of the image has. */
long rest_move_up(struct restore *r, long fd);
/* restore_obj.c: f->opened, of a descriptor that is an object; then what is left to do. */
long object_open(struct restore *r, struct rest_fd *f);
long objects_settle(struct restore *r);
void rest_unlock(const struct restore *r); /* what that has locked */
void objects_close(struct restore *r);
/* restore_sock.c: what of its kinds object_open() makes. */
long open_socket(struct restore *r, struct rest_obj *o);
long open_listener(struct restore *r, struct rest_obj *o);
long open_inotify(struct rest_obj *o);
