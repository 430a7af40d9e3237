/*
 * vmad_dump_pid(): another process, as it is, to a descriptor. Library code; runs in
 * whoever dumps. The image is written by the process itself, from its park (blob/park.c):
 * its pages are copied once, from where they are to where they go.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmadump/chan.h"
#include "vmadump/freeze.h"
#include "vmadump/others.h"
#include "vmadump/pack.h"
#include "vmadump/tree.h"

#define COPY (VMAD_DUMP_LIBS | VMAD_DUMP_EXEC | VMAD_DUMP_OTHER)

/*
 * Ends it where it is parked: it never runs again, for our end of its channel is open still.
 * Let go first, so that it is its parent who is told.
 */
void freeze_end(struct freeze *f)
{
	if (!f->loose) {
		trace_interrupt(&f->t);
		f->t.stop_after = 0;
		trace_detach(&f->t);
	}
	kill(f->t.pid, SIGKILL);
}

/* A file that nobody else reads: what is written there can be thrown away. */
static int is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 0;
}

/* An image that is being written. */
struct dumping {
	int fd, heard;
	long bytes; /* when it has been heard: of its image, or -1 */
};

/* Memory that it shares with itself alone is told of where there is some: most have none. */
static long hear(struct freeze *f, struct dumping *d)
{
	struct chan_msg m = {0};
	int order, r;

	d->heard = 1;
	d->bytes = -1;
	if (chan_answer(&f->t, f->chan, &m) == 0)
		return d->bytes = (long)m.u.bytes;
	order = errno == ENOTSUP ? tree_alone(f, 0) : -1;
	if (order < 0)
		return -1;
	r = chan_dump(f->chan, d->fd, order, 0);
	close(order);
	if (r < 0)
		return trace_fail(&f->t, errno, "process %d: %s", f->t.pid, strerror(errno));
	if (chan_answer(&f->t, f->chan, &m) == 0)
		d->bytes = (long)m.u.bytes;
	return d->bytes;
}

static int word_of_image(struct freeze *f, void *arg)
{
	return hear(f, arg) < 0 ? -1 : 0;
}

static int word_of_blob(struct freeze *f, void *arg)
{
	(void)arg;
	return freeze_word(f, 0, 0);
}

/*
 * It is making its image, and to lead it out it has to be through. Its own descriptors that show
 * meanwhile are files of /proc and the image, which have names: nobody is asked about them.
 */
static int look_meanwhile(struct freeze *f, struct dumping *d)
{
	struct vmad_err *err = f->t.err, unused;
	int e;

	if (!f->late || (freeze_look_at_rest(f) == 0 && freeze_alone(f, word_of_image, d) == 0))
		return 0;
	e = errno;
	f->t.err = &unused;
	if (!d->heard)
		hear(f, d);
	f->t.err = err;
	errno = e;
	return -1;
}

static long dump_it(struct freeze *f, int fd)
{
	struct dumping d = {.fd = fd};

	/* What was looked at from outside has said its word. */
	if (!f->late && freeze_alone(f, f->aside ? NULL : word_of_blob, NULL) < 0)
		return -1;
	if (chan_order(f->chan, CHAN_DUMP, fd) < 0)
		return trace_fail(&f->t, errno, "process %d: %s", f->t.pid, strerror(errno));
	if (look_meanwhile(f, &d) < 0)
		return -1;
	return d.heard ? d.bytes : hear(f, &d);
}

static long dump_alone(pid_t pid, int fd, unsigned flags, struct pack_child *pack, uint64_t *ret_us,
		       struct vmad_err *err)
{
	const unsigned late = is_file(fd) ? FREEZE_LATE : 0;
	struct freeze f;
	long r;

	if (freeze_enter(&f, pid, flags | late | FREEZE_FILTERS | FREEZE_ROOT, 0, err) < 0) {
		freeze_free(&f);
		return -1;
	}
	r = dump_it(&f, fd);
	if (flags & (VMAD_KILL | VMAD_STOP)) /* it is there to go on if this fails */
		r = pack_end(pack, r, &f.t);
	if (r > 0 && flags & VMAD_KILL) {
		freeze_end(&f);
	} else {
		int e = errno;

		if (r > 0 && flags & VMAD_STOP)
			f.t.stop_after = SIGSTOP;
		if (!f.loose || freeze_again(&f) == 0)
			freeze_leave(&f);
		errno = e;
	}
	if (ret_us)
		*ret_us = freeze_now_us() - f.since_us;
	freeze_free(&f);
	return r;
}

long vmad_dump_pid(pid_t pid, int fd, unsigned flags, uint64_t *ret_us, struct vmad_err *err)
{
	struct trace t = {.err = err};
	struct pack_child pack = {.pipe = -1};
	long r;

	if (flags & ~(COPY | VMAD_KILL | VMAD_STOP | VMAD_TREE | VMAD_PACK) ||
	    (flags & VMAD_KILL && flags & VMAD_STOP))
		return trace_fail(&t, EINVAL, "vmadump: flags");
	if (flags & VMAD_PACK && (fd = pack_begin(&pack, fd, &t)) < 0)
		return -1;
	r = flags & VMAD_TREE ? tree_dump(pid, fd, flags & COPY, flags, &pack, ret_us, err)
			      : dump_alone(pid, fd, flags, &pack, ret_us, err);
	if (r < 0 && err)
		others_name_peer(pid, err->text);
	return pack_end(&pack, r, &t);
}
