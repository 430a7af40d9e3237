/*
 * Proves: each wrong request ends with -1, the documented errno, a text that
 * names the thing, and the process running where it was. Lab of 3 nodes.
 */
#include <fcntl.h>
#include <grp.h>

#include "check.h"

extern char **environ;

static char *const args[] = {(char *)"true", NULL};

/* After a failed call: still here, still able to do things. */
static void still_here(int node)
{
	CHECK(bproc_currnode() == node, "now on node %d", bproc_currnode());
	CHECK(kill(getpid(), 0) == 0, "kill");
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child was left");
}

static void all_calls(int node, int err, const char *word, int here)
{
	const char *const names[] = {"move", "rfork", "rexec", "execmove"};
	int r;

	for (int i = 0; i < 4; i++) {
		errno = 0;
		switch (i) {
		case 0:
			r = bproc_move(node);
			break;
		case 1:
			r = bproc_rfork(node);
			if (r == 0)
				_exit(0);
			break;
		case 2:
			r = bproc_rexec(node, "/bin/true", args, environ);
			break;
		default:
			r = bproc_execmove(node, "/bin/true", args, environ);
		}
		CHECK(r == -1 && errno == err, "%s to node %d: %d, not errno %d", names[i], node, r,
		      err);
		CHECK(strstr(bproc_errtext(), word), "%s: '%s' does not say '%s'", names[i],
		      bproc_errtext(), word);
		still_here(here);
	}
}

static void no_such_node(void)
{
	char buf[32];
	struct bproc_node_info_t info;

	all_calls(3, BE_INVALIDNODE, "3", -1);
	all_calls(1000000, BE_INVALIDNODE, "1000000", -1);
	all_calls(-7, BE_INVALIDNODE, "-7", -1);
	CHECK(bproc_nodestatus(3, buf, sizeof(buf)) == -1 && errno == BE_INVALIDNODE, "status");
	CHECK(bproc_nodeinfo(3, &info) == -1 && errno == BE_INVALIDNODE, "info");
	CHECK(bproc_access(3, BPROC_X_OK) == -1, "access");
	CHECK(bproc_nodesetstatus(3, (char *)"up") == -1 && errno == BE_INVALIDNODE, "setstatus");
	CHECK(!strcmp(bproc_strerror(BE_INVALIDNODE), bproc_strerror(-BE_INVALIDNODE)), "strerror");
}

static void node_down(void)
{
	char buf[32];

	MUST(system("bplab stop-slave 2") == 0, "bplab stop-slave");
	for (int i = 0; i < 200; i++) {
		if (bproc_nodestatus(2, buf, sizeof(buf)) > 0 && !strcmp(buf, "down"))
			break;
		nap_ms(50);
	}
	CHECK(!strcmp(buf, "down"), "state is %s", buf);
	all_calls(2, BE_NODEDOWN, "2", -1);
	CHECK(bproc_nodesetstatus(2, (char *)"up") == -1 && errno == EINVAL, "up by decree");
	MUST(system("bplab start-slave 2 && bplab wait -w 20 2") == 0, "bplab start-slave");
	CHECK(bproc_move(2) == 0 && bproc_move(-1) == 0, "it is back");
}

/* The same when the asker is on a node. */
static void from_a_node(void)
{
	MUST(bproc_move(0) == 0, "move");
	all_calls(55, BE_INVALIDNODE, "55", 0);
	CHECK(bproc_rfork(0) == -1 && errno == BE_SAMENODE, "rfork to where it is");
	MUST(bproc_move(BPROC_NODE_MASTER) == 0, "home");
}

static void as_user(void)
{
	if (bproc_move(1) == 0) {
		CHECK(0, "went to a node that is closed to it");
		return;
	}
	CHECK(errno == EACCES, "move");
	all_calls(1, EACCES, "1", -1);
	CHECK(bproc_access(1, BPROC_X_OK) == -1 && errno == EACCES, "access");
	CHECK(bproc_chmod(1, 0111) == -1 && errno == EPERM, "chmod");
	CHECK(bproc_nodesetstatus(1, (char *)"error") == -1 && errno == EPERM, "setstatus");
	CHECK(bproc_move(0) == 0 && getuid() == 65534 && geteuid() == 65534, "the open node");
	CHECK(bproc_currnode() == 0 && setuid(0) == -1, "root again on the node");
	CHECK(bproc_move(BPROC_NODE_MASTER) == 0, "home");
}

static void permission(void)
{
	pid_t pid;

	CHECK(bproc_chmod(1, 0700) == -1 && errno == EINVAL, "other bits");
	CHECK(bproc_chmod(1, 0100) == 0 && bproc_chown(1, 0) == 0 && bproc_chgrp(1, 0) == 0,
	      "chmod");
	CHECK(bproc_chmod(0, 0111) == 0, "chmod");
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
		    setresuid(65534, 65534, 65534) < 0)
			_exit(77); /* one id only in this user namespace */
		as_user();
		_exit(failures ? 1 : 0);
	}
	switch (wait_exit(pid)) {
	case 0:
		break;
	case 77:
		printf("no second user here: permissions not tested\n");
		break;
	default:
		CHECK(0, "the user's child");
	}
	CHECK(bproc_chmod(1, 0111) == 0, "chmod");
}

static void no_such_command(void)
{
	CHECK(bproc_rexec(0, "/no/such/thing", args, environ) == -1 && errno == ENOENT, "rexec");
	still_here(-1);
	CHECK(bproc_rexec(0, "/etc/passwd", args, environ) == -1 && errno == EACCES, "rexec");
	still_here(-1);
	CHECK(bproc_execmove(0, "/no/such/thing", args, environ) == -1 && errno == ENOENT,
	      "execmove");
	still_here(-1);
}

static void bad_arguments(void)
{
	CHECK(_bproc_rfork(0, 0x100) == -1 && errno == EINVAL, "flags");
	CHECK(_bproc_move(0, ~0) == -1 && errno == EINVAL, "flags");
	CHECK(bproc_rexec(0, NULL, args, environ) == -1 && errno == EINVAL, "NULL");
	CHECK(bproc_execmove(0, NULL, args, environ) == -1 && errno == EINVAL, "NULL");
	CHECK(bproc_nodesetstatus(0, (char *)"no way") == -1 && errno == EINVAL, "a bad state");
	CHECK(bproc_nodesetstatus(0, (char *)"abcdefghijklmnop") == -1 && errno == ENOSPC,
	      "a long state");
	CHECK(bproc_move(BPROC_NODE_MASTER) == 0, "move to where it is");
}

int main(void)
{
	no_such_node();
	bad_arguments();
	no_such_command();
	permission();
	from_a_node();
	node_down();
	return finish("errors");
}
