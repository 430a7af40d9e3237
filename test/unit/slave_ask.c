/*
 * What a process that leaves takes along of its children (slaved/bpslave_ask.c): as /proc has
 * them, but for what is known better of those that stand in here (slaved/bpslave_event.c).
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "slaved/bpslave.h"

#define CHILD 1001

struct slave slave;

static struct init_chain child; /* as /proc has it */

/* -- what bpslave has around it */

int proc_read_ids(int32_t host_pid, struct proc_ids *ret_ids)
{
	ret_ids->pid = ret_ids->host_pid = host_pid;
	return 0;
}

bool proc_is_cluster(const struct proc_ids *ids)
{
	(void)ids;
	return true;
}

int proc_read_cred(const struct proc_ids *ids, struct chan_cred *ret_cred)
{
	(void)ids;
	*ret_cred = (struct chan_cred){.ngroups = 0};
	return 0;
}

int proc_read_chain(const struct proc_ids *ids, bool with_self, struct proc_chain *ret_chain)
{
	(void)ids;
	(void)with_self;
	ret_chain->n = 0;
	return 0;
}

int proc_read_children(const struct proc_ids *ids, struct proc_chain *chain)
{
	(void)ids;
	chain->member[chain->n++] = child;
	return 0;
}

void exec_of(int32_t host_pid, struct exec_file *ret_file)
{
	(void)host_pid;
	ret_file->path[0] = '\0';
}

static struct {
	void (*then)(void *arg);
	void *arg;
} held[2];
static int nheld;
static bool is_held;	/* its output has not left yet */
static int there, ends; /* that was told */

bool master_send(const void *msg)
{
	there += ((const ProtobufCMessage *)msg)->descriptor == &bproc__proc_state__descriptor;
	ends += ((const ProtobufCMessage *)msg)->descriptor == &bproc__proc_event__descriptor;
	return true;
}

bool master_send_later(const void *msg)
{
	return master_send(msg);
}

void master_fenced(void)
{
}

void init_send(const struct init_msg *msg, const int *fds, int nfd)
{
	(void)msg;
	(void)fds;
	(void)nfd;
}

void init_done(uint64_t seq)
{
	(void)seq;
}

void move_after_ghost(const struct init_msg *m)
{
	(void)m;
}

void chain_put(const struct init_chain *c, Bproc__Chain *to)
{
	(void)c;
	(void)to;
}

uint64_t stdio_visit(int32_t pid)
{
	(void)pid;
	return 0;
}

void stdio_exited(int32_t pid, void (*then)(void *arg), void *arg)
{
	(void)pid;
	if (!is_held)
		return then(arg);
	ck_assert_int_lt(nheld, 2);
	held[nheld].then = then;
	held[nheld++].arg = arg;
}

void stdio_flush_home(int32_t pid, uint64_t move, uint64_t visit, void (*then)(void *arg),
		      void *arg)
{
	(void)pid;
	(void)move;
	(void)visit;
	then(arg);
}

void stdio_forget_home(int32_t pid)
{
	(void)pid;
}

bool born_child(const struct chan_child *c, uint64_t seq)
{
	(void)c;
	(void)seq;
	return false;
}

void born_flush(void)
{
}

void born_is_here(int32_t pid)
{
	(void)pid;
}

void born_ends(int32_t pid)
{
	(void)pid;
}

int32_t born_orphaned(int32_t pid)
{
	(void)pid;
	return 0;
}

void born_stands(int32_t pid, int32_t stop)
{
	(void)pid;
	(void)stop;
}

void kill_on_init(const struct init_msg *m)
{
	(void)m;
}

void place_on_init(const struct init_msg *m)
{
	(void)m;
}

void query_on_used(const struct init_msg *m)
{
	(void)m;
}

/* -- */

static void show(uint32_t code, int32_t status)
{
	Bproc__Mirror m = BPROC__MIRROR__INIT;
	Bproc__Proc p = BPROC__PROC__INIT;

	p.pid = CHILD;
	p.gen = 7;
	m.proc = &p;
	m.code = code;
	m.status = status;
	event_on_mirror(&m);
}

static uint8_t taken_as(uint8_t state)
{
	char text[LOCAL_TEXT_MAX];
	struct asker a = {.ids = {.pid = 1000}};

	child = (struct init_chain){.pid = CHILD, .ppid = 1000, .child = 1, .state = state};
	ck_assert_int_eq(asker_read(&a, MOVE_MOVE, text), 0);
	ck_assert_int_eq(a.chain.n, 1);
	return a.chain.member[0].state;
}

/*
 * The kernel has its parent told that it goes on as soon as its ghost is sent the SIGCONT; that is
 * held by its tracer until both have run, and looks as if it were stopped.
 */
START_TEST(goes_on)
{
	ck_assert_uint_eq(taken_as(CHAIN_STOP_SEEN), CHAIN_STOP_SEEN); /* it is real here, maybe */
	show(CLD_STOPPED, SIGSTOP);
	ck_assert_uint_eq(taken_as(CHAIN_STOPPED), CHAIN_STOPPED);
	ck_assert_uint_eq(taken_as(CHAIN_STOP_SEEN), CHAIN_STOP_SEEN);
	ck_assert_uint_eq(taken_as(CHAIN_RUNS), CHAIN_RUNS);
	show(CLD_CONTINUED, SIGCONT);
	ck_assert_uint_eq(taken_as(CHAIN_STOPPED), CHAIN_RUNS);
	ck_assert_uint_eq(taken_as(CHAIN_STOP_SEEN), CHAIN_RUNS);
	ck_assert_uint_eq(taken_as(CHAIN_ENDED), CHAIN_ENDED);
	show(CLD_STOPPED, SIGTSTP);
	ck_assert_uint_eq(taken_as(CHAIN_STOPPED), CHAIN_STOPPED);
	gen_forget(CHILD); /* it has come here */
	show(CLD_CONTINUED, SIGCONT);
	gen_forget(CHILD);
	ck_assert_uint_eq(taken_as(CHAIN_STOP_SEEN), CHAIN_STOP_SEEN);
}
END_TEST

/* Its end waits for its output, and a new master has still to hear that it is there. */
START_TEST(held_end)
{
	struct init_msg m = {.type = EV_CHILD, .pid = CHILD, .seq = 9, .move_id = 77};

	m.u.child = (struct chan_child){.pid = CHILD, .code = CLD_EXITED, .status = 3};
	is_held = true;
	event_on_init(&m);
	ck_assert_int_eq(there, 0); /* this one knows */
	event_on_init(&m);
	ck_assert_int_eq(there, 1);
	ck_assert_int_eq(ends, 0);
	while (nheld-- > 0)
		held[nheld].then(held[nheld].arg);
	ck_assert_int_eq(there, 1);
	ck_assert_int_eq(ends, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ask");
	TCase *t = tcase_create("ask");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, goes_on);
	tcase_add_test(t, held_end);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
