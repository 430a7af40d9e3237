/*
 * What the lab's daemons and COMMAND are started with: arguments and
 * environment. Runs in the lab's pid 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bplab_lab.h"

int64_t lab_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void lab_slave_args(struct lab_msg *m, int node)
{
	if (node == LAB_MASTER) {
		lab_add(m, "--front-end", false);
		return;
	}
	lab_add(m, "-k", false);
	lab_add(m, LAB_KEY, false);
	lab_add(m, lab_ip(LAB_MASTER_ADDR), false);
}

/* NAME=DIR:old value, if DIR is there. */
static void add_path(const char *name, const char *dir, const char *fallback)
{
	const char *old = getenv(name);
	char buf[16384];

	if (access(dir, X_OK) < 0)
		return;
	if (!old || !*old)
		old = fallback;
	snprintf(buf, sizeof(buf), "%s%s%s", dir, *old ? ":" : "", old);
	setenv(name, buf, 1);
}

/* Of the lab's own process, before the places are made: all in it inherit this. */
void lab_set_env(void)
{
	const char *bin = lab.opts->bin;
	char dir[4200];

	unsetenv("BPROC_RUN_DIR");
	add_path("PATH", bin, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	setenv("BPLAB_PATH", getenv("PATH") ?: bin, 1);
	/* Beside a build tree's bin/ is the lib/ that its programs link. */
	snprintf(dir, sizeof(dir), "%s/../lib/libbproc.so", bin);
	if (access(dir, R_OK) == 0 && strcmp(bin, "/usr/bin")) {
		snprintf(dir, sizeof(dir), "%s/../lib", bin);
		add_path("LD_LIBRARY_PATH", dir, "");
		snprintf(dir, sizeof(dir), "%s/../lib/pkgconfig", bin);
		add_path("PKG_CONFIG_PATH", dir, "");
	}
	snprintf(dir, sizeof(dir), "%d", lab.opts->nodes);
	setenv("BPLAB_NODES", dir, 1);
	setenv("BPLAB", LAB_DIR, 1);
	setenv("PS1", "[bplab] \\w\\$ ", 1);
}
