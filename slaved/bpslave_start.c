/*
 * bpslave starts bpinit, in a session of its own and with nothing of ours, so that
 * it outlives us; and gives it the name by which the master knows it again, kept in
 * a file beside its socket. Runs in bpslave, and in the child until it execs.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpslave.h"
#include "libbproc/log.h"

/* -- which bpinit this is */

static char id[64];

static void id_path(char path[256])
{
	snprintf(path, 256, "%s/init.id", run_dir());
}

void id_new(void)
{
	unsigned char raw[16];

	if (getrandom(raw, sizeof(raw), 0) < 0)
		memset(raw, 0, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(id + 2 * i, 3, "%02x", raw[i]);
}

void id_read(void)
{
	char path[256];
	cleanup_fd int fd = -1;
	ssize_t n;

	id_path(path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, id, sizeof(id) - 1);
	id[n > 0 ? n : 0] = '\0';
	if (n != 32)
		id_new();
}

void id_write(void)
{
	char path[256];
	cleanup_fd int fd = -1;

	id_path(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write_full(fd, id, 32) < 0)
		log_warn("%s: %s", path, strerror(errno));
}

const char *init_id(void)
{
	return id;
}

/* -- starting it */

/*
 * Beside our own binary (build tree), else where it is installed: as seen from our own
 * binary, since `cmake --install --prefix` and a moved tree are not where the build thought.
 */
void program_beside(const char *name, char path[PATH_MAX])
{
	static const char *const places[] = {"", BPROC_LIBEXEC_BESIDE "/"};
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 256);
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(slash + 1, 256, "%s%s", places[i], name);
		if (access(path, X_OK) == 0)
			return;
	}
	snprintf(path, PATH_MAX, BPROC_LIBEXECDIR "/%s", name);
}

static void bpinit_path(char path[PATH_MAX])
{
	if (slave.opt.bpinit)
		snprintf(path, PATH_MAX, "%s", slave.opt.bpinit);
	else
		program_beside("bpinit", path);
}

int programs_check(struct bproc_err *err)
{
	char path[2][PATH_MAX];

	bpinit_path(path[0]);
	program_beside("bpdata", path[1]);
	for (int i = 0; i < 2; i++)
		if (access(path[i], X_OK) < 0)
			return bproc_err_set(err, errno, "cannot run %s: %s", path[i],
					     strerror(errno));
	return 0;
}

/* In the child: a session of its own and nothing of ours, so that it outlives us. */
static _Noreturn void become_bpinit(const char *path, int64_t mono_off_ns, int64_t boot_off_ns)
{
	char offsets[64], *argv[8], role_node[] = "--node", role_keeper[] = "--keeper";
	char timens[] = "--timens", name[] = "bpinit";
	int n = 0;

	setsid();
	if (fork() != 0)
		_exit(0);
	signal(SIGPIPE, SIG_DFL);
	argv[n++] = name;
	argv[n++] = slave.opt.front_end ? role_keeper : role_node;
	if (mono_off_ns || boot_off_ns) {
		snprintf(offsets, sizeof(offsets), "%lld:%lld", (long long)mono_off_ns,
			 (long long)boot_off_ns);
		argv[n++] = timens;
		argv[n++] = offsets;
	}
	argv[n] = NULL;
	close_range(3, ~0u, 0);
	execv(path, argv);
	dprintf(2, "<3>bpslave: %s: %s\n", path, strerror(errno));
	_exit(127);
}

void start_bpinit(int64_t mono_off_ns, int64_t boot_off_ns)
{
	char path[PATH_MAX];
	pid_t pid;

	bpinit_path(path);
	pid = fork();
	if (pid == 0)
		become_bpinit(path, mono_off_ns, boot_off_ns);
	if (pid < 0)
		log_error("bpinit: fork: %s", strerror(errno));
	else
		waitpid(pid, NULL, 0); /* its child goes on: this one ends at once */
	log_info("started %s", path);
}
