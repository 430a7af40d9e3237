/*
 * Proves: a move that the master is asked for just as it ends is asked for again when there is one,
 * and happens, once; and any other question waits, and is answered as if there had always been one.
 * Every kind of move, from home, from a node to another and home. The master is
 * stopped before the question comes and killed then; or it kills itself when it has judged it, or
 * when the target has been told and the source has not. The same of the bpslave that is asked: it
 * is killed before it has the question, when it has asked, and when the target is to be told.
 * asked_static [KIND]. Lab of 2 nodes.
 */
#include <fcntl.h>
#include <signal.h>

#include "check.h"

extern char **environ;

#define HOME BPROC_NODE_MASTER
#define S(text) ((char[]){text}) /* argv is not const */
#define MEMORY (4u << 20)
#define PATIENCE_S 20
#define FAILED 100 /* and below: the call did not, or what it made is wrong */

enum how { STOPPED, ASKED, STARTED, SLAVE_STOPPED, SLAVE_ASKED, SLAVE_GRANTED, HOWS };
static const char *const hows[] = {
	"stopped before",      "judged",
	"target told",	       "its slave stopped before",
	"its slave has asked", "its slave killed while the target waits",
};

static char ready[PATH_LEN], go[PATH_LEN];

/* -- the moves. What each returns is the exit status of who does it: 0 */

static int failed(const char *what)
{
	fprintf(stderr, "%s: %s (%s)\n", what, bproc_strerror(errno), bproc_errtext());
	return FAILED;
}

static int move(int to)
{
	if (bproc_move(to) < 0)
		return failed("move");
	return bproc_currnode() == to ? 0 : FAILED - 1;
}

static int rfork_to(int to)
{
	pid_t me = getpid(), child = bproc_rfork(to);

	if (child < 0)
		return failed("rfork");
	if (child == 0)
		_exit(bproc_currnode() == to && getppid() == me ? 7 : 8);
	return wait_exit(child) == 7 ? 0 : FAILED - 2;
}

static char *const tell_host[] = {S("sh"), S("-c"),
				  S("case $(hostname) in n0) exit 10;;"
				    "n1) exit 11;; *) exit 9;; esac"),
				  NULL};

static int in_child(int to, int (*fn)(int, const char *, char *const[], char *const[]))
{
	pid_t child = fork();

	if (child == 0) {
		fn(to, "/bin/sh", tell_host, environ);
		_exit(failed("exec"));
	}
	return wait_exit(child) == 10 + to ? 0 : FAILED - 3;
}

static int rexec(int to)
{
	return in_child(to, bproc_rexec);
}

static int execmove(int to)
{
	return in_child(to, bproc_execmove);
}

static volatile sig_atomic_t end;

static void on_term(int sig)
{
	(void)sig;
	end = 1;
}

/* Works until it is told to end, by SIGTERM; 0: it has lost nothing, and is at to. */
static _Noreturn void victim(int to, int tell)
{
	unsigned char *v = malloc(MEMORY);
	size_t bad = 0;
	pid_t child;
	int s = 0;

	signal(SIGTERM, on_term);
	for (size_t i = 0; i < MEMORY; i++)
		v[i] = (unsigned char)(i >> 9);
	child = fork();
	if (child == 0) {
		signal(SIGTERM, SIG_DFL);
		for (;;)
			pause();
	}
	s = write(tell, "", 1) == 1 ? 0 : 1;
	close(tell);
	while (!end)
		nap_ms(5);
	kill(child, SIGTERM);
	waitpid(child, &s, 0);
	for (size_t i = 0; i < MEMORY; i++)
		bad += v[i] != (unsigned char)(i >> 9);
	_exit(bad || !WIFSIGNALED(s) ? 3 : bproc_currnode() == to ? 0 : 4);
}

static int other(int to, int flags)
{
	int pipe_fd[2], s, r = 0;
	char c;
	pid_t child;

	if (pipe(pipe_fd) < 0)
		return failed("pipe");
	child = fork();
	if (child == 0) {
		close(pipe_fd[0]);
		victim(to, pipe_fd[1]);
	}
	close(pipe_fd[1]);
	if (read(pipe_fd[0], &c, 1) != 1)
		return failed("victim");
	close(pipe_fd[0]);
	make_file(ready);
	if (!await_file(go, PATIENCE_S))
		return FAILED - 4;
	if (bproc_movepid(child, to, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER | flags) < 0)
		r = failed("movepid");
	kill(child, SIGTERM);
	s = wait_status(child);
	if (r == 0 && s != 0)
		fprintf(stderr, "what was moved ended with %#x\n", s);
	return r ? r : s ? FAILED - 5 : 0;
}

static int whole(int to)
{
	return other(to, 0);
}

static int live(int to)
{
	return other(to, BPROC_MOVE_LIVE);
}

static int lazy(int to)
{
	return other(to, BPROC_MOVE_LAZY);
}

static int tree(int to)
{
	return other(to, BPROC_MOVE_TREE);
}

/* -- questions: of a child that is there; 0: the answer is right */

static int where(int to, int pid)
{
	int node;

	errno = 0;
	node = bproc_pidnode(pid);
	if (node < 0 && errno)
		return failed("pidnode");
	return node == to ? 0 : FAILED - 6;
}

static int list(int to, int pid)
{
	struct bproc_proc_info_t *l = NULL;
	int n = bproc_proclist(BPROC_NODE_ANY, &l), r;

	if (n < 0)
		return failed("proclist");
	r = to == HOME ? 0 : FAILED - 7; /* what is real at home is in no list */
	for (int i = 0; i < n; i++)
		if (l[i].pid == pid)
			r = l[i].node == to && to != HOME ? 0 : FAILED - 6;
	free(l);
	return r;
}

static int use(int to, int pid)
{
	struct bproc_procstat_t *l = NULL;
	int n = bproc_procstat(to, pid, &l), r;

	if (n < 0)
		return failed("procstat");
	r = n == 1 && l->pid == pid && l->node == to ? 0 : FAILED - 7;
	free(l);
	return r;
}

static int set(int to, int pid)
{
	static unsigned int mode = 0100;
	struct bproc_node_info_t is;

	(void)to;
	(void)pid;
	mode ^= 011;
	if (bproc_chmod(1, (int)mode) < 0)
		return failed("chmod");
	if (bproc_nodeinfo(1, &is) < 0)
		return failed("nodeinfo");
	return is.mode == mode && strcmp(is.status, "up") == 0 ? 0 : FAILED - 8;
}

static int (*question)(int to, int pid);

static int ask(int to)
{
	pid_t child = to == bproc_currnode() ? fork() : bproc_rfork(to);
	int r = FAILED - 4;

	if (child < 0)
		return failed("the child");
	if (child == 0)
		for (;;)
			pause();
	make_file(ready);
	if (await_file(go, PATIENCE_S))
		r = question(to, child);
	kill(child, SIGKILL);
	wait_status(child);
	return r;
}

#define IF(how) (1u << (how))
#define MASTERS (IF(STOPPED) | IF(ASKED) | IF(STARTED))
#define SLAVES (IF(SLAVE_STOPPED) | IF(SLAVE_ASKED) | IF(SLAVE_GRANTED))
#define ASKS (IF(STOPPED) | IF(SLAVE_STOPPED) | IF(SLAVE_ASKED))

static const struct kind {
	const char *name;
	int (*fn)(int to);
	unsigned how;
	bool tells; /* that it is ready, itself */
	int (*question)(int to, int pid);
} kinds[] = {
	{"move", move, MASTERS | SLAVES, false, NULL},
	/* The source of these is told first: a grant that it has is undone. */
	{"rfork", rfork_to, (MASTERS | SLAVES) & ~IF(STARTED), false, NULL},
	{"rexec", rexec, MASTERS | SLAVES, false, NULL},
	/* Of a program that is loaded there is no caller left. */
	{"execmove", execmove, ASKS | IF(ASKED), false, NULL},
	{"movepid", whole, MASTERS | SLAVES, true, NULL},
	{"live", live, MASTERS, true, NULL},
	{"lazy", lazy, MASTERS, true, NULL},
	{"tree", tree, MASTERS, true, NULL},
	{"where", ask, ASKS, true, where},
	{"list", ask, IF(STOPPED), true, list},
	{"use", ask, IF(STOPPED), true, use},
	{"set", ask, ASKS, true, set},
};
#define KINDS (int)(sizeof(kinds) / sizeof(*kinds))

static const struct {
	int from, to;
} ways[] = {{HOME, 0}, {0, 1}, {1, HOME}};
#define WAYS (int)(sizeof(ways) / sizeof(*ways))

/* -- the master */

static void run(const char *command)
{
	int s = system(command);

	MUST(s == 0, "%s: %d", command, s);
}

/* So does every slave see it, each by its own link. */
static void all_see(const char *state)
{
	char command[300];

	snprintf(command, sizeof(command),
		 "n=0; for at in '' 'bplab exec 0' 'bplab exec 1'; do"
		 " until [ \"$($at bpstat -s master 2>/dev/null)\" = %s ]; do"
		 " n=$((n+1)); [ $n -lt 400 ] || exit 1; sleep 0.02; done; done",
		 state);
	run(command);
}

/* At a node, or the front end. */
static void run_at(int node, const char *command)
{
	char line[200];

	if (node == HOME)
		snprintf(line, sizeof(line), "%s", command);
	else
		snprintf(line, sizeof(line), "bplab exec %d sh -c '%s'", node, command);
	run(line);
}

#define STOP_SLAVE "kill -STOP $(pgrep -o -x bpslave)"

static void begin(enum how how, int from, int to)
{
	if (how == SLAVE_STOPPED)
		return run_at(from, STOP_SLAVE);
	if (how == SLAVE_GRANTED)
		return run_at(to, STOP_SLAVE);
	if (how == STOPPED || how == SLAVE_ASKED) {
		run("kill -STOP $(pgrep -x bpmaster)");
		return;
	}
	run("bplab stop-master");
	all_see("unreachable");
	run(how == ASKED ? "bplab start-master --env BPROC_FAULT=master-asked"
			 : "bplab start-master --env BPROC_FAULT=master-started");
	run("bplab wait -w 20 0 1");
	all_see("up");
}

static void another_slave(enum how how, int from, int to)
{
	char line[80];

	nap_ms(200); /* it has been asked, or has asked */
	snprintf(line, sizeof(line), "bplab restart-slave --kill %s",
		 from == HOME ? "master"
		 : from	      ? "1"
			      : "0");
	run(line);
	if (how == SLAVE_ASKED)
		run("kill -CONT $(pgrep -x bpmaster)");
	if (how == SLAVE_GRANTED)
		run_at(to, "kill -CONT $(pgrep -o -x bpslave)");
}

static void another(enum how how, int from, int to)
{
	if (how >= SLAVE_STOPPED)
		return another_slave(how, from, to);
	if (how == STOPPED) {
		nap_ms(200); /* it has asked */
		run("bplab stop-master --kill");
	} else {
		run("n=0; while pgrep -x bpmaster >/dev/null; do"
		    " n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done");
	}
	run("bplab start-master");
}

static void no_streams(void)
{
	int fd = open("/dev/null", O_RDWR);

	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	close(fd);
}

static void one(const struct kind *k, int from, int to, enum how how)
{
	char name[80];
	pid_t pid;
	int s = -1;

	snprintf(name, sizeof(name), "%s from %d to %d, %s", k->name, from, to, hows[how]);
	unlink(ready);
	unlink(go);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (how >= SLAVE_STOPPED) /* what it forwards is cut with it */
			no_streams();
		if (from != HOME && bproc_move(from) < 0)
			_exit(failed("to where it begins"));
		question = k->question;
		if (!k->tells) {
			make_file(ready);
			if (!await_file(go, PATIENCE_S))
				_exit(FAILED - 4);
		}
		_exit(k->fn(to));
	}
	MUST(await_file(ready, PATIENCE_S), "%s: not ready", name);
	begin(how, from, to);
	make_file(go);
	another(how, from, to);
	for (double t0 = now_s(); now_s() - t0 < PATIENCE_S; nap_ms(5))
		if (waitpid(pid, &s, WNOHANG) == pid)
			break;
	CHECK(s == 0, "%s: %#x", name, s);
	if (s == -1)
		kill(pid, SIGKILL);
	else
		printf("   %s\n", name);
	run("bplab wait -w 20 0 1");
}

int main(int argc, char **argv)
{
	tmp_path(ready, "asked-ready");
	tmp_path(go, "asked-go");
	for (int i = 0; i < KINDS; i++)
		for (int w = 0; w < WAYS; w++)
			for (enum how h = STOPPED; h < HOWS; h++)
				/* A slave of home and one of a node: there is no third kind. */
				if (kinds[i].how & IF(h) &&
				    (h < SLAVE_STOPPED || ways[w].to >= 0) &&
				    (argc < 2 || strcmp(argv[1], kinds[i].name) == 0))
					one(&kinds[i], ways[w].from, ways[w].to, h);
	unlink(ready);
	unlink(go);
	return finish("asked");
}
