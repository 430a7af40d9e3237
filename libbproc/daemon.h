/*
 * What every daemon does around its loop: the run directory, the lock that says
 * which process is the daemon, readiness for systemd, a clean end on SIGTERM.
 */
#pragma once

#include <event2/event.h>

#include "err.h"

/* Makes run_dir() (0755) if it is not there. 0 or -errno. */
int daemon_run_dir(struct bproc_err *err);
/*
 * Locks run_dir()/name.pid and writes our pid into it. The lock's fd (keep it for life; the
 * kernel lets go of it when we die), or -errno: -EBUSY with the holder's pid in err.
 */
int daemon_lock(const char *name, struct bproc_err *err);
/* "READY=1", "STOPPING=1", "STATUS=...": to $NOTIFY_SOCKET, silently nothing without one. */
void daemon_notify(const char *state);
/*
 * Confines the daemon, and what it starts, to one processor: "any" to none, a number to that
 * one, NULL to the last one it may use. A small move is a dozen wake-ups from daemon to daemon;
 * each costs 18 us when it has to wake another processor, and 3 us when it does not (measured
 * with packets through a chain of processes). A process that arrives is set free again.
 * 0, or -EINVAL: not such a processor.
 */
int daemon_cpu(const char *which, struct bproc_err *err);
/*
 * SIGTERM and SIGINT end the loop (event_base_loopexit), SIGPIPE is ignored. 0 or -errno.
 * The events are freed with daemon_signals_free, before the base.
 */
struct daemon_signals {
	struct event *term, *intr;
};
int daemon_signals(struct event_base *base, struct daemon_signals *ret_signals);
void daemon_signals_free(struct daemon_signals *s);
