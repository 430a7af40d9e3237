/* What else the victim is: names, limits, directory, descriptors; and what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump.h"
#include "vmadump_victim.h"

#define DIR_PATH "/tmp"
#define NAME "a victim)"

int victim_refuse(const char *what);

static char cmdline[4096], environment[65536];
static size_t cmdline_len, environment_len;

static size_t slurp(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size);

	MUST(n > 0);
	close(fd);
	return (size_t)n;
}

static void names_set(void)
{
	MUST(prctl(PR_SET_NAME, NAME) == 0);
	cmdline_len = slurp("/proc/self/cmdline", cmdline, sizeof cmdline);
	environment_len = slurp("/proc/self/environ", environment, sizeof environment);
}

static void names_look(int after)
{
	static char now[65536];

	(void)after;
	MUST(prctl(PR_GET_NAME, now) == 0 && strcmp(now, NAME) == 0);
	MUST(slurp("/proc/self/cmdline", now, sizeof now) == cmdline_len &&
	     memcmp(now, cmdline, cmdline_len) == 0);
	MUST(slurp("/proc/self/environ", now, sizeof now) == environment_len &&
	     memcmp(now, environment, environment_len) == 0);
}

static void limits_set(void)
{
	struct rlimit l = {200, 1000};

	MUST(setrlimit(RLIMIT_NOFILE, &l) == 0);
	l.rlim_cur = l.rlim_max = 12345;
	MUST(setrlimit(RLIMIT_MSGQUEUE, &l) == 0);
	MUST(setpriority(PRIO_PROCESS, 0, 7) == 0);
	umask(0351);
	MUST(chdir(DIR_PATH) == 0);
	MUST(personality(ADDR_NO_RANDOMIZE) != -1);
	MUST(prctl(PR_SET_PDEATHSIG, 10) == 0);
	MUST(prctl(PR_SET_TIMERSLACK, 77777ul) == 0);
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
}

static void limits_look(int after)
{
	struct rlimit l;
	char dir[64];
	int sig = 0;

	(void)after;
	MUST(getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur == 200 && l.rlim_max == 1000);
	MUST(getrlimit(RLIMIT_MSGQUEUE, &l) == 0 && l.rlim_cur == 12345 && l.rlim_max == 12345);
	MUST(getpriority(PRIO_PROCESS, 0) == 7);
	MUST(umask(0351) == 0351);
	MUST(getcwd(dir, sizeof dir) && strcmp(dir, DIR_PATH) == 0);
	MUST(personality(0xffffffff) == ADDR_NO_RANDOMIZE);
	MUST(prctl(PR_GET_PDEATHSIG, &sig) == 0 && sig == 10);
	MUST(prctl(PR_GET_TIMERSLACK) == 77777);
	MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	MUST(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
	MUST(prctl(PR_GET_DUMPABLE) == 1);
}

static char path[64];

static void files_set(void)
{
	int fd;

	snprintf(path, sizeof path, "/tmp/vmadump-file-%d", getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_APPEND, 0600);
	MUST(fd >= 0 && write(fd, "0123456789", 10) == 10 && lseek(fd, 4, SEEK_SET) == 4);
	MUST(dup2(fd, 70) == 70 && fcntl(70, F_SETFD, FD_CLOEXEC) == 0);
	MUST(dup2(fd, 90) == 90);
	close(fd);
	fd = open(path, O_RDONLY);
	MUST(fd >= 0 && lseek(fd, 2, SEEK_SET) == 2 && dup2(fd, 80) == 80);
	close(fd);
	fd = open(DIR_PATH, O_RDONLY | O_DIRECTORY);
	MUST(fd >= 0 && dup2(fd, 100) == 100);
	close(fd);
	fd = open("/dev/null", O_RDWR);
	MUST(fd >= 0 && dup2(fd, 120) == 120);
	close(fd);
}

static int shared(int a, int b)
{
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b) == 0;
}

static void files_look(int after)
{
	struct stat st;
	char c;

	MUST(fcntl(70, F_GETFD) == FD_CLOEXEC && fcntl(90, F_GETFD) == 0);
	MUST((fcntl(70, F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_RDWR));
	MUST(shared(70, 90) && !shared(70, 80));
	MUST(lseek(90, 0, SEEK_CUR) == 4 && read(70, &c, 1) == 1 && c == '4');
	MUST(lseek(90, 4, SEEK_SET) == 4);
	MUST(read(80, &c, 1) == 1 && c == '2' && lseek(80, 2, SEEK_SET) == 2);
	MUST(fstat(100, &st) == 0 && S_ISDIR(st.st_mode));
	MUST(fstat(120, &st) == 0 && S_ISCHR(st.st_mode) && write(120, "x", 1) == 1);
	/* Nothing of the one that undumped is left over. */
	for (int fd = 3; after && fd < 200; fd++)
		MUST((fcntl(fd, F_GETFD) >= 0) ==
		     (fd >= 70 && fd <= 120 && fd % 10 == 0 && fd != 110));
	if (after)
		unlink(path);
}

const struct part process_parts[] = {
	{"names", names_set, names_look},
	{"files", files_set, files_look},
	{"limits", limits_set, limits_look}, /* umask: after the files are made */
	{NULL, NULL, NULL},
};

static void *idle(void *unused)
{
	pause();
	return unused;
}

/* NAME is that of a file which is made for some of them. */
static int make_unmovable(const char *what, char *name)
{
	pthread_t thread;
	int fds[2], fd = -1;

	if (strcmp(what, "thread") == 0)
		return pthread_create(&thread, NULL, idle, NULL);
	if (strcmp(what, "shm") == 0) {
		int id = shmget(IPC_PRIVATE, 4096, 0600);

		fd = shmat(id, NULL, 0) == (void *)-1;
		shmctl(id, IPC_RMID, NULL);
		return fd;
	}
	if (strcmp(what, "hugetlb") == 0)
		return mmap(NULL, 2 << 20, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1,
			    0) == MAP_FAILED;
	if (strcmp(what, "twice") == 0) {
		char *p =
			mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		return mremap(p, 0, 8192, MREMAP_MAYMOVE) == MAP_FAILED;
	}
	if (strcmp(what, "pipe") == 0)
		fd = pipe(fds) < 0 ? -1 : fds[0];
	else if (strcmp(what, "socket") == 0)
		fd = socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ? -1 : fds[0];
	else if (strcmp(what, "eventfd") == 0)
		fd = eventfd(0, 0);
	else if (strcmp(what, "memfd") == 0)
		fd = memfd_create("mine", 0);
	else if (strcmp(what, "deleted") == 0)
		fd = mkstemp(name);
	else if (strcmp(what, "device") == 0)
		fd = open("/dev/kmsg", O_RDONLY);
	else if (strcmp(what, "lock") == 0)
		fd = mkstemp(name);
	else if (strcmp(what, "terminal") == 0)
		fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);
	if (fd < 0)
		return -1;
	if (strcmp(what, "lock") == 0 && flock(fd, LOCK_EX) < 0)
		return -1;
	if (strcmp(what, "deleted") == 0)
		unlink(name);
	return dup2(fd, 7) == 7 && (fd == 7 || close(fd) == 0) ? 0 : -1;
}

/* Exit 77: this cannot be made here. Else the refusal goes to standard output. */
int victim_refuse(const char *what)
{
	struct vmad_err err = {0};
	int r, fd = memfd_create("image", MFD_CLOEXEC);
	char name[] = "/tmp/vmadump-gone-XXXXXX";

	if (make_unmovable(what, name) != 0)
		return 77;
	r = vmad_dump(fd, 0, &err);
	if (r != -1 || errno != ENOTSUP || err.code != ENOTSUP)
		return 1;
	unlink(name);
	/* Nothing may have been written. */
	if (lseek(fd, 0, SEEK_END) != 0)
		return 1;
	printf("%s\n", err.text);
	return 0;
}
