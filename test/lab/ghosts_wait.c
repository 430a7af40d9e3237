/*
 * Proves: a child that ends while its parent is on its way, and that the ghost which the parent
 * leaves behind has waited for, is still the parent's to wait for, and home's ghost of it is a
 * zombie until then, also when the node's bpinit comes late to hear of that ghost. A lab of 2
 * nodes.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#include "check.h"

#define BYTES (384ul << 20) /* so long does who leaves unmap that bpinit can be stopped meanwhile  \
			     */
#define PATIENCE_S 20

static char left[PATH_LEN], ended[PATH_LEN];

/* On node 0: a child, and a good deal of memory; to node 1, home, and there it waits. */
static _Noreturn void parent(void)
{
	const int how = MAP_PRIVATE | MAP_ANONYMOUS;
	char *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, how, -1, 0);
	pid_t child;
	int status;

	if (memory == MAP_FAILED)
		_exit(91);
	memset(memory, 1, BYTES);
	child = fork();
	if (child == 0) {
		munmap(memory, BYTES);
		if (!await_file(left, PATIENCE_S))
			_exit(1);
		nap_ms(20);
		_exit(7);
	}
	if (bproc_move(1) < 0)
		_exit(92);
	make_file(left);
	munmap(memory, BYTES);
	if (!await_file(ended, PATIENCE_S))
		_exit(93);
	if (bproc_move(BPROC_NODE_MASTER) < 0)
		_exit(94);
	status = wait_exit(child);
	_exit(status == 7 ? 0 : 95);
}

/* At home: the only child of pid, or 0. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	int child = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "r");
	if (f && fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f)
		fclose(f);
	return child;
}

int main(void)
{
	char command[512];
	pid_t pid, child, stopper;

	tmp_path(left, "left");
	tmp_path(ended, "ended");
	snprintf(command, sizeof(command),
		 "bplab exec 0 sh -c 'p=$(pgrep -x bpinit); while [ ! -e %s ]; do :; done;"
		 " kill -STOP $p; sleep 0.4; kill -CONT $p; sleep 0.2'",
		 left);
	stopper = fork();
	if (stopper == 0)
		_exit(system(command) != 0);
	pid = bproc_rfork(0);
	if (pid == 0)
		parent();
	MUST(pid > 0, "rfork");
	for (double t0 = now_s(); !(child = child_of(pid)) && now_s() - t0 < PATIENCE_S; nap_ms(1))
		;
	MUST(child > 0, "its child has no ghost");
	CHECK(wait_exit(stopper) == 0, "%s", command);
	CHECK(kill(child, 0) == 0, "its child has been waited for, but not by it");
	make_file(ended);
	CHECK(wait_exit(pid) == 0, "its child's end is not its to wait for");
	unlink(left);
	unlink(ended);
	return finish("what a ghost has waited for");
}
