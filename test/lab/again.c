/*
 * Proves: who has just come to a machine may fork away from there at once. A dozen at a
 * time move, and their first call there is bproc_rfork(), also home; the child ends at
 * once, is waited for, and so is its parent, where it came from. Nothing of them is left
 * at home, no ghost and no relay of their output. Lab of 3 nodes.
 */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>

#include "check.h"

#define ROUNDS 30
#define AT_ONCE 12
#define PATIENCE_MS 25000

static pid_t one(int to, int then)
{
	pid_t pid = fork(), child;

	if (pid != 0)
		return pid;
	if (bproc_move(to) < 0) {
		fprintf(stderr, "move to %d: %s\n", to, bproc_errtext());
		_exit(3);
	}
	child = bproc_rfork(then);
	if (child == 0)
		_exit(7);
	if (child < 0) {
		fprintf(stderr, "rfork from %d to %d: %s\n", to, then, bproc_errtext());
		_exit(4);
	}
	_exit(wait_exit(child) == 7 ? 0 : 5);
}

static void play_round(int i)
{
	pid_t pid[AT_ONCE];
	int left = AT_ONCE, status;

	for (int k = 0; k < AT_ONCE; k++)
		pid[k] = one((i + k) % 3, (k + i) % 5 ? (i + k + 1 + (k / 3) % 2) % 3 : -1);
	for (int ms = 0; ms < PATIENCE_MS && left > 0; ms += 5) {
		for (int k = 0; k < AT_ONCE; k++) {
			if (!pid[k] || waitpid(pid[k], &status, WNOHANG) != pid[k])
				continue;
			CHECK(status == 0, "round %d, number %d: status %#x", i, k, status);
			pid[k] = 0;
			left--;
		}
		nap_ms(left > 0 ? 5 : 0);
	}
	for (int k = 0; k < AT_ONCE; k++)
		CHECK(!pid[k], "round %d, number %d: pid %d has not ended", i, k, (int)pid[k]);
}

/* Others of this program's name at home. */
static int others(char *ret, size_t size)
{
	DIR *d = opendir("/proc");
	char path[PATH_MAX], mine[32] = "", comm[32];
	struct dirent *e;
	FILE *f = fopen("/proc/self/comm", "r");
	int n = 0;

	MUST(d && f && fgets(mine, sizeof(mine), f), "/proc");
	fclose(f);
	ret[0] = '\0';
	while ((e = readdir(d))) {
		if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = fopen(path, "r");
		if (f && fgets(comm, sizeof(comm), f) && strcmp(comm, mine) == 0) {
			n++;
			snprintf(ret + strlen(ret), size - strlen(ret), " %s", e->d_name);
		}
		if (f)
			fclose(f);
	}
	closedir(d);
	return n;
}

int main(void)
{
	char left[256];

	/* One description: as a terminal, or 2>&1. */
	dup2(1, 2);
	for (int i = 0; i < ROUNDS && !failures; i++)
		play_round(i);
	for (int ms = 0; others(left, sizeof(left)) > 0 && ms < PATIENCE_MS && !failures; ms += 50)
		nap_ms(50);
	CHECK(!left[0], "left at home:%s", left);
	printf("%s - %d moved and forked away at once\n", failures ? "NOT OK" : "ok",
	       ROUNDS * AT_ONCE);
	return failures != 0;
}
