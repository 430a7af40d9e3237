/*
 * bproc_dump and bproc_undump of a process that has used the library before, run
 * beside a synthetic bpslave (test_api_server). Proves that no connection of the
 * library is in the image, that the copy makes one of its own, and that refusals
 * name what is in the way. Never instrumented: it is dumped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bproc.h>

static void need(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "FAILED: %s: %s (%s)\n", what, strerror(errno), bproc_errtext());
	_exit(1);
}

static int status_of(pid_t pid)
{
	int status;

	need(waitpid(pid, &status, 0) == pid, "waitpid");
	return status;
}

int main(void)
{
	char path[] = "/tmp/bproc-dump.XXXXXX", junk[4096] = "junk";
	int fd, n, p[2];
	pid_t pid;

	closefrom(3); /* what the caller of the test left open */
	fd = mkstemp(path);
	need(fd >= 0 && bproc_numnodes() == 4, "numnodes");
	n = bproc_dump(fd, BPROC_DUMP_EXEC | BPROC_DUMP_OTHER);
	if (n == 0) {
		/* The copy. Its parent has an open connection of its own. */
		need(bproc_numnodes() == 4, "numnodes in the copy");
		_exit(7);
	}
	need(n > 0, "bproc_dump");
	need(lseek(fd, 0, SEEK_CUR) == n, "bytes written");
	need(bproc_numnodes() == 4, "numnodes after the dump");

	pid = fork();
	if (pid == 0) {
		lseek(fd, 0, SEEK_SET);
		bproc_undump(fd);
		need(0, "bproc_undump");
	}
	need(status_of(pid) == W_EXITCODE(7, 0), "status of the copy");

	need(bproc_dump(fd, 8) == -1 && errno == EINVAL, "flags");
	need(bproc_dump(-1, 0) == -1 && errno == EBADF, "no descriptor");
	need(pipe(p) == 0, "pipe");
	need(dup2(p[0], 50) == 50 && bproc_dump(fd, 0) == -1 && errno == ENOTSUP, "a pipe");
	need(strstr(bproc_errtext(), "fd ") != NULL, "which it names");
	close(50);
	close(p[0]);
	close(p[1]);
	need(bproc_undump(-1) == -1 && errno == EBADF, "no descriptor");
	need(pwrite(fd, junk, sizeof(junk), 0) == sizeof(junk), "write");
	lseek(fd, 0, SEEK_SET);
	need(bproc_undump(fd) == -1 && (errno == EBADMSG || errno == ENOEXEC), "no image");
	need(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0, "truncate");
	need(bproc_undump(fd) == -1 && errno == EBADMSG, "empty image");
	need(bproc_numnodes() == 4, "numnodes at the end");
	unlink(path);
	puts("ok");
	return 0;
}
