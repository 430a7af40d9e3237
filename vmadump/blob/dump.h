/*
 * One dump: what its steps hand to each other. All of it lies in the arena.
 */
#pragma once

#include "blob.h"
#include "image.h"

/* A file that a mapping refers to. */
struct dump_file {
	struct dump_file *next;
	const char *path;
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	uint32_t index;	  /* in TAG_FILES; VMA_NO_FILE until a mapping needs it */
	uint32_t id_kind; /* enum file_id */
	uint32_t id_len;
	uint8_t id[FILE_ID_MAX];
	uint64_t head;	 /* where its first page is mapped, or 0 */
	uint32_t flags;	 /* FILE_WRITE, FILE_EXE */
	uint32_t is_lib; /* mapped with execute permission somewhere */
	uint64_t size, mtime_s, mtime_ns;
};

struct dump_vma {
	struct dump_vma *next;
	uint64_t start, end, off;
	struct dump_file *file; /* of what maps shows, even where contents are copied */
	const char *name;	/* maps' name if it is no file */
	uint64_t ino;
	uint32_t prot, kind, flags;
	uint32_t shared;
	uint32_t copy; /* 1: all pages go, not only the private ones */
	uint32_t object,
		no_pages; /* memory of the tree: its number, plus 1; 1: they go elsewhere */
	uint64_t first_run, nruns;
	uint32_t live; /* 1: what is in no run and in no gap went ahead */
};

struct dump_run {
	uint64_t start, len;
};

/* /proc/self/status, as far as it is needed. */
struct dump_status {
	uint32_t threads, umask, ngroups;
	uint32_t uid[4], gid[4];
	uint64_t sig_pending, sig_shared, sig_ignored, sig_caught;
	uint64_t cap[5]; /* inheritable, permitted, effective, bounding, ambient */
	uint32_t no_new_privs;
	uint32_t fd_size; /* no descriptor is as high as this */
};

/* /proc/self/stat. */
struct dump_stat {
	uint64_t start_code, end_code, start_stack, start_data, end_data, start_brk;
	uint64_t arg_start, arg_end, env_start, env_end;
	int32_t ppid, pgid, sid, nice;
	uint64_t tty; /* device number of its controlling terminal, 0: none */
	char comm[16];
};

struct dump_fd {
	struct dump_fd *next;
	int32_t fd;
	uint32_t cloexec, kind, oflags, stream;
	uint32_t others; /* 1: it is here for others of its tree only */
	int32_t dup_of; /* fd whose open description this one shares, or -1; FD_TREE: the first's */
	uint64_t offset; /* FD_OBJECT: which */
	uint64_t dev, ino, rdev;
	const char *path;
	struct dump_fd *below[2]; /* dump_twin.c: of the kernel's order */
};

#define DUMP_TWIN_DEPTH 96u
struct dump {
	struct blob *b;
	struct blob_dump *opt;
	int32_t pid, tid;
	int32_t mem; /* the process whose memory and mappings are looked at: this one */
	struct dump_status status;
	struct dump_stat stat;
	struct dump_vma *vmas, *last_vma;
	struct dump_file *files, *last_file;
	struct dump_fd *fds, *last_fd;
	struct dump_fd *descriptions; /* dump_twin.c: one of each */
	uint32_t twin_depth;
	uint32_t freed; /* bits of 0 to 2: they were streams until another number was (dump_saved.c)
			 */
	uint8_t twin_way[DUMP_TWIN_DEPTH];
	struct dump_obj *objs, *last_obj; /* object.h */
	struct dump_lock *locks;
	const struct tree_order *order; /* tree.h; NULL: it is by itself */
	uint32_t napped;		/* 1: it has waited for a timer that is late */
	uint32_t nnp;			/* 1: not all threads have the first one's no_new_privs */
	uint32_t nvmas, nfiles, nfds, nobjs, nlocks;
	uint64_t missing; /* some of its memory has not followed it yet: where; or 0 */
	uint32_t nlazy;	  /* mappings whose pages are not in the image, but follow it: lazy_out.h */
	const char *exe, *cwd;
	uint8_t *strings; /* room for TAG_STRINGS */
	struct dump_run *runs;
	uint64_t nruns, page_bytes;
	struct dump_run *guards; /* start and end; NULL: there is none, as far as is known */
	uint64_t nguards;
	struct dump_more *more, *last_more;
	uint32_t nmore;
	uint64_t live;	       /* opt->live, if it is made use of */
	struct dump_run *gone; /* mapped by itself: gaps of what went ahead */
	uint64_t ngone;
	uint32_t nlive;
	uint64_t xstate_bv;
	uint32_t abilities;
	uint64_t auxv[2 * IMAGE_AUXV_MAX];
	uint32_t auxv_len;
	uint8_t *head; /* the image up to its first page */
	uint64_t head_len;
	uint8_t end[IMAGE_END_NOTE];
};

/*
 * dump.c: what a step has returned. If it was a refusal, and all of them are wanted, it is told,
 * and the step is as good as done.
 */
long dump_look_on(struct dump *d, long r);
/* dump_saved.c: f, which cannot be opened anew and leads out of here, is a stream now, or not. */
int stream_saved(struct dump *d, struct dump_fd *f);
/* A shell's terminal: a stream by now, or as it was; or refused. */
long terminal_saved(struct dump *d, struct dump_fd *f);
struct stat;
/* dump_fd.c: f is to be opened by its path, if that leads to it: 0, f->kind set. */
long fd_by_path(struct dump *d, struct dump_fd *f, const struct stat *st);
/* dump_proc.c: status, stat, auxv. */
long dump_read_proc(struct dump *d);
long dump_read_status(struct dump *d);
/* dump_vma.c: every mapping, its kind, its file. */
long dump_vmas(struct dump *d);
/*
 * dump_lift.c: while the mappings are read in order, the pages of large ones are elsewhere, from
 * when the one at gate is being read until the last one was.
 */
#define LIFT_MAX 256u
struct lifted {
	uint64_t at, len, to;
};
struct lift {
	uint64_t gate;
	uint32_t n, away; /* away: 1: they are elsewhere */
	struct lifted m[LIFT_MAX];
};
struct lift *lift_plan(struct dump *d); /* NULL: there is nothing to lift */
void lift_away(struct lift *l);
void lift_back(struct lift *l);
/* lazy_dump.c: does one of its threads have its stack there? */
int dump_has_stack(const struct blob *b, uint64_t start, uint64_t end);
/* dump_mem.c: which pages go. The runs end up as the arena's last allocation. */
long dump_runs(struct dump *d);
/* guard.c: one more; GUARD_FIRST: there is no room for any yet. Is there one? */
#define GUARD_FIRST 1
long guard_add(struct dump *d, uint64_t start, uint64_t end);
int guard_within(int fd, uint64_t start, uint64_t end);
uint8_t *guard_rec(struct dump *d, uint8_t *rec);
/* more.c: what is set of a descriptor besides; of the process. */
long more_of_fd(struct dump *d, const struct dump_fd *f);
uint64_t more_recs_max(const struct dump *d);
uint8_t *more_rec(struct dump *d, uint8_t *rec);
/* It runs elsewhere: no signal is sent here for what happens to these when they are closed. */
void more_of_ghost(const struct dump *d);
void more_of_proc(const struct dump *d, uint8_t *proc);
/*
 * dump_live.c: what was written since it went ahead. live_runs() is 1 if that is how this mapping
 * goes, and add() has got its runs.
 */
struct scan_region;
long live_open(struct dump *d);
long live_runs(struct dump *d, struct dump_vma *v, int fd, struct scan_region *g, uint32_t room,
	       long (*add)(void *arg, uint64_t start, uint64_t end), void *arg);
uint64_t live_rec_max(const struct dump *d);
uint8_t *live_rec(struct dump *d, uint8_t *rec);
void live_close(struct dump *d);
/* dump_fd.c: every descriptor. */
long dump_fds(struct dump *d);
/* dump_twin.c: does one that was added before share f's description? Then f->kind is FD_DUP. */
void twin_find(struct dump *d, struct dump_fd *f);
void twin_terminal(struct dump *d, struct dump_fd *f);
void twin_add(struct dump *d, struct dump_fd *f);
/* dump_thread.c: what the other threads are; notes and records of them. */
long dump_threads(struct dump *d);
uint64_t thread_notes_max(const struct dump *d);
uint64_t thread_recs_max(const struct dump *d);
uint8_t *thread_notes(struct dump *d, uint8_t *p);
uint8_t *thread_recs(struct dump *d, uint8_t *p);
/* dump_elf.c, dump_state.c: pieces of those. */
#define PRSTATUS_LEN 336u
#define FPREGS_LEN 512u
uint64_t note_len(uint64_t name, uint64_t desc);
uint8_t *note_prstatus(struct dump *d, uint8_t *p, int32_t tid, uint64_t mask,
		       const struct blob_regs *regs);
uint8_t *note_fpu(struct dump *d, uint8_t *p, const uint8_t *xsave, uint64_t len);
uint8_t *rec_end(uint8_t *rec, uint16_t tag, uint64_t len);
/* dump_hold.c: takes pending signals and timers out of the kernel; see blob_thaw(). */
long dump_hold(struct dump *d);
/* What would keep another process's from being taken; it runs. */
long dump_hold_look(struct dump *d);
/* dump_state.c: the STATE note's records, appended at p; returns the end. */
uint64_t dump_state_max(const struct dump *d);
uint8_t *dump_state(struct dump *d, uint8_t *p);
long dump_strings(struct dump *d); /* before it, and before there is room for p */
/* dump_elf.c: the head, and all of it to the descriptor. */
long dump_head(struct dump *d);
long dump_write(struct dump *d);

/* The timers of this process as /proc/self/timers and the kernel have them. */
struct image_timer {
	int32_t id;
	uint32_t clock, notify, signo;
	uint64_t value; /* sigev_value */
	int32_t tid;	/* SIGEV_THREAD_ID, else 0 */
	uint32_t overrun;
	uint64_t interval_s, interval_ns, left_s, left_ns;
	uint64_t reserved;
};
