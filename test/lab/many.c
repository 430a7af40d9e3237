/*
 * Proves: many at once and many in a row work as few do: every exit status
 * arrives, nothing is left over. Lab of 4 nodes.
 */
#include "check.h"

enum { AT_ONCE = 200, IN_A_ROW = 300, PARENTS = 4, EACH = 50 };

static void at_once(void)
{
	pid_t pid[AT_ONCE];

	for (int i = 0; i < AT_ONCE; i++) {
		pid[i] = bproc_rfork(i % 4);
		MUST(pid[i] >= 0, "rfork number %d", i);
		if (pid[i] == 0) {
			nap_ms(300);
			_exit(i % 100);
		}
	}
	for (int i = 0; i < AT_ONCE; i++)
		CHECK(wait_exit(pid[i]) == i % 100, "child %d", i);
}

static void in_a_row(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = bproc_rfork(i % 4);

		MUST(pid >= 0, "rfork number %d", i);
		if (pid == 0)
			_exit(bproc_currnode() == i % 4 ? i % 200 : 255);
		CHECK(wait_exit(pid) == i % 200, "child %d", i);
	}
}

static void parents(void)
{
	pid_t pid[PARENTS];

	fflush(NULL);
	for (int i = 0; i < PARENTS; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			failures = 0;
			in_a_row(EACH);
			_exit(failures ? 1 : 0);
		}
	}
	for (int i = 0; i < PARENTS; i++)
		CHECK(wait_exit(pid[i]) == 0, "parent %d", i);
}

/* None of them is in the cluster's table any more. */
static void nothing_left(void)
{
	struct bproc_proc_info_t *list = NULL;
	int n = -1;

	for (int i = 0; i < 50 && n != 0; i++) {
		n = bproc_proclist(BPROC_NODE_ANY, &list);
		free(list);
		list = NULL;
		if (n != 0)
			nap_ms(20);
	}
	CHECK(n == 0, "%d processes are still in the table", n);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child is left");
}

int main(void)
{
	double t0 = now_s();

	in_a_row(IN_A_ROW);
	printf("%d in a row: %.1f ms each\n", IN_A_ROW, (now_s() - t0) * 1000 / IN_A_ROW);
	t0 = now_s();
	at_once();
	printf("%d at once: %.2f s\n", AT_ONCE, now_s() - t0);
	parents();
	nothing_left();
	return finish("many");
}
