/*
 * A ghost sends a signal of its original's, as itself. Runs in the ghost.
 */
#include "ghost.h"

/* As itself: the receiver sees this pid and uid, as it would have at home. */
void send_signal(struct ghost *g, const struct chan_msg *m)
{
	siginfo_t si;
	unsigned r, e, s;
	long err;

	if (!m->u.kill.sig) { /* in its turn, so what came before is sent */
		struct chan_msg done = {.type = CHAN_KILLED, .u.kill = m->u.kill};

		chan_send(g->b, &done);
		return;
	}
	if (m->u.kill.code == SI_USER || m->u.kill.code > 0) {
		err = sys_kill(m->u.kill.pid, m->u.kill.sig);
	} else if (m->u.kill.code == SI_TKILL) {
		err = sys_tgkill(m->u.kill.pid, m->u.kill.pid, m->u.kill.sig);
	} else {
		memset(&si, 0, sizeof si);
		sys_getresuid(&r, &e, &s);
		si.si_signo = m->u.kill.sig;
		si.si_code = m->u.kill.code;
		si.si_pid = (int)sys_getpid();
		si.si_uid = r;
		si.si_value.sival_ptr = (void *)m->u.kill.value;
		err = sys_sigqueueinfo(m->u.kill.pid, m->u.kill.sig, &si);
	}
	if (err < 0) {
		blob_err_set(&g->b->err, (int)-err, "signal %d to pid %d: %s", m->u.kill.sig,
			     m->u.kill.pid, errno_name(err));
		chan_fail(g->b, CHAN_NO_MOVE);
	}
}
