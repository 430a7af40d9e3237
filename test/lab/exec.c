/*
 * Proves: rexec runs the node's program with our arguments, execmove runs ours
 * there; on failure the caller is what and where it was. Lab of 2 nodes.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "check.h"

extern char **environ;

#define S(text) ((char[]){text}) /* argv is not const */

/* stdout of the child's program, through a file. */
static int run(int how, int node, const char *cmd, char *const argv[], char *out, size_t size)
{
	char path[PATH_LEN];
	int fd, r;
	ssize_t n;
	pid_t pid;

	tmp_path(path, "exec");
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0, "%s", path);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(fd, 1);
		close(fd);
		if (how == 0)
			bproc_rexec(node, cmd, argv, environ);
		else
			bproc_execmove(node, cmd, argv, environ);
		/* Told by a status that no program of this test has. */
		_exit(errno == ENOENT && bproc_currnode() == -1 ? 201 : 202);
	}
	r = wait_exit(pid);
	n = pread(fd, out, size - 1, 0);
	out[n > 0 ? n : 0] = '\0';
	close(fd);
	unlink(path);
	return r;
}

static void both(int how, const char *name)
{
	char out[4096];
	char *host[] = {S("hostname"), NULL};
	char *echo[] = {S("sh"),  S("-c"), S("echo \"$0|$1|$ROVER|$PWD\"; exit 23"),
			S("a b"), S(""),   NULL};
	char *gone[] = {S("nothing"), NULL};
	char want[256], cwd[200];
	int r;

	r = run(how, 1, "/bin/hostname", host, out, sizeof(out));
	CHECK(r == 0 && !strcmp(out, "n1\n"), "%s hostname: %d '%s'", name, r, out);
	r = run(how, 0, "/bin/sh", echo, out, sizeof(out));
	snprintf(want, sizeof(want), "a b||yes|%s\n", getcwd(cwd, sizeof(cwd)));
	CHECK(r == 23 && !strcmp(out, want), "%s sh: %d '%s', not '%s'", name, r, out, want);
	r = run(how, 1, "/no/such/program", gone, out, sizeof(out));
	CHECK(r == 201, "%s of nothing: %d", name, r);
}

/* The pid stays over rexec; seen by the program itself. */
static void same_pid(int how)
{
	char *argv[] = {S("sh"), S("-c"), S("kill -TERM $$"), NULL};
	pid_t pid;
	int s;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (how == 0)
			bproc_rexec(0, "/bin/sh", argv, environ);
		else
			bproc_execmove(0, "/bin/sh", argv, environ);
		_exit(1);
	}
	s = wait_status(pid);
	CHECK(WIFSIGNALED(s) && WTERMSIG(s) == 15, "status %#x", s);
}

/* Another thread than the first, of several. */
static void *from_thread(void *arg)
{
	char *gone[] = {S("nothing"), NULL};
	char *argv[] = {S("sh"), S("-c"),
			S("test $$ = $0 && set -- /proc/$$/task/* && test $# = 1 &&"
			  " hostname && read x && exit 24"),
			arg, NULL};

	if (bproc_rexec(1, "/no/such/program", gone, environ) != -1 || errno != ENOENT)
		_exit(203);
	bproc_rexec(1, "/bin/sh", argv, environ);
	_exit(204);
}

static void *sit(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* They are gone there, and here; what calls becomes the process. */
static void threads(void)
{
	int in[2], out[2];
	char said[64], path[64];
	struct stat st = {0};
	ssize_t n;
	pid_t pid;
	int r;

	MUST(pipe(in) == 0 && pipe(out) == 0, "pipes");
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		pthread_t t;

		snprintf(path, sizeof(path), "%d", (int)getpid());
		dup2(in[0], 0);
		dup2(out[1], 1);
		close_range(3, ~0u, 0);
		for (int i = 0; i < 3; i++)
			if (pthread_create(&t, NULL, i < 2 ? sit : from_thread, path) != 0)
				_exit(205);
		sit(NULL);
	}
	close(in[0]);
	close(out[1]);
	n = read(out[0], said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = '\0';
	CHECK(!strcmp(said, "n1\n"), "rexec of a process with threads says '%s'", said);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	CHECK(stat(path, &st) == 0 && st.st_nlink == 3, "its ghost has %d threads",
	      (int)st.st_nlink - 2);
	MUST(write(in[1], "x\n", 2) == 2, "write");
	close(in[1]);
	close(out[0]);
	r = wait_exit(pid);
	CHECK(r == 24, "rexec of a process with threads: %d", r);
}

int main(void)
{
	CHECK(chdir("/usr") == 0, "chdir");
	setenv("ROVER", "yes", 1);
	setenv("PWD", "/usr", 1);
	both(0, "rexec");
	same_pid(0);
	threads();
	both(1, "execmove");
	same_pid(1);
	return finish("exec");
}
