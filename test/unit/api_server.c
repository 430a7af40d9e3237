/*
 * Runs a command beside a synthetic bpslave: for tests of the commands as programs.
 * usage: test_api_server COMMAND [ARGUMENT...]
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bproc.h>

#include "api_fake.h"
#include "libbproc/local.h"

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	fake_start_apart(&(struct fake){.how = FAKE_ABORT_BOTH,
					.type = LOCAL_MOVE,
					.nprocs = 6,
					.err = BE_NODEDOWN,
					.text = "node is down",
					.self = -1});
	/* It ends with this process, which has to stay. */
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[1], argv + 1);
		fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
		_exit(127);
	}
	return fake_wait(pid);
}
