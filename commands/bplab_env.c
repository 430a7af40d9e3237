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
static void add_path(struct lab_msg *m, const char *name, const char *dir, const char *fallback)
{
	const char *old = getenv(name);
	char buf[16384];

	if (access(dir, X_OK) < 0)
		return;
	if (!old || !*old)
		old = fallback;
	snprintf(buf, sizeof(buf), "%s=%s%s%s", name, dir, *old ? ":" : "", old);
	lab_add(m, buf, true);
}

void lab_command_env(struct lab_msg *m)
{
	const char *bin = lab.opts->bin;
	const char *path = getenv("PATH");
	char buf[16384], dir[4200];

	if (!path || !*path)
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	snprintf(buf, sizeof(buf), "PATH=%s:%s", bin, path);
	lab_add(m, buf, true);
	snprintf(buf, sizeof(buf), "BPLAB_PATH=%s:%s", bin, path);
	lab_add(m, buf, true);
	/* Beside a build tree's bin/ is the lib/ that its programs link. */
	snprintf(dir, sizeof(dir), "%s/../lib/libbproc.so", bin);
	if (access(dir, R_OK) == 0 && strcmp(bin, "/usr/bin")) {
		snprintf(dir, sizeof(dir), "%s/../lib", bin);
		add_path(m, "LD_LIBRARY_PATH", dir, "");
		snprintf(dir, sizeof(dir), "%s/../lib/pkgconfig", bin);
		add_path(m, "PKG_CONFIG_PATH", dir, "");
	}
	snprintf(buf, sizeof(buf), "BPLAB_NODES=%d", lab.opts->nodes);
	lab_add(m, buf, true);
	lab_add(m, "BPLAB=" LAB_DIR, true);
	lab_add(m, "PS1=[bplab] \\w\\$ ", true);
}
