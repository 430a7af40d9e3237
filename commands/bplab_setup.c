/*
 * What a lab and its places see of the machine: its files, but a /proc, /run,
 * /dev/pts and /dev/shm of their own. Runs in the pid 1 of the lab
 * (setup_lab) and of each place (setup_place), in mount namespaces of theirs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bplab.h"

static int mount_or_say(const char *src, const char *dst, const char *type, unsigned long flags,
			const char *data)
{
	int e;

	if (mount(src, dst, type, flags, data) == 0)
		return 0;
	e = errno;
	user_explain(e, dst);
	return -e;
}

static int mount_proc(void)
{
	return mount_or_say("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

/* One entry of the machine's /run, bound to the same name in the new one. */
static void keep_entry(const char *old, const struct dirent *d)
{
	char src[512], dst[512], link[4096];
	struct stat st;
	ssize_t n;
	int fd;

	if (snprintf(src, sizeof(src), "%s/%s", old, d->d_name) >= (int)sizeof(src) ||
	    snprintf(dst, sizeof(dst), "/run/%s", d->d_name) >= (int)sizeof(dst))
		return;
	if (lstat(src, &st) < 0)
		return;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(src, link, sizeof(link) - 1);
		if (n > 0) {
			link[n] = '\0';
			if (symlink(link, dst) < 0)
				return;
		}
		return;
	}
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(dst, 0755) < 0)
			return;
	} else {
		fd = open(dst, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		if (fd < 0)
			return;
		close(fd);
	}
	/* What cannot be bound (a user may not see it) is simply empty here. */
	if (mount(src, dst, NULL, MS_BIND | MS_REC, NULL) < 0)
		return;
}

/*
 * /run/bproc and /run/bplab need not exist on this machine, and must not be
 * made there: the lab has a /run of its own with the machine's entries in it.
 */
static int mount_run(void)
{
	char old[64];
	cleanup_fd int fd = open("/run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *d;
	DIR *dir;
	int r;

	if (fd < 0) {
		lab_warn("/run: %s", strerror(errno));
		return -errno;
	}
	r = mount_or_say("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	if (r < 0)
		return r;
	snprintf(old, sizeof(old), "/proc/self/fd/%d", fd);
	dir = fdopendir(dup(fd));
	while (dir && (d = readdir(dir))) {
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") &&
		    strcmp(d->d_name, "bproc") && strcmp(d->d_name, "bplab"))
			keep_entry(old, d);
	}
	if (dir)
		closedir(dir);
	if (mkdir("/run/bproc", 0755) < 0 || mkdir(LAB_DIR, 0755) < 0 || mkdir(LAB_LOG, 0755) < 0 ||
	    mkdir(LAB_STATE, 0755) < 0) {
		lab_warn("/run: %s", strerror(errno));
		return -errno;
	}
	return 0;
}

static int write_file(const char *path, mode_t mode, const void *buf, size_t len)
{
	cleanup_fd int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode);
	int r = fd < 0 ? -errno : write_full(fd, buf, len);

	if (r < 0)
		lab_warn("%s: %s", path, strerror(-r));
	return r;
}

static int write_key(void)
{
	unsigned char raw[32];
	char hex[2 * sizeof(raw) + 2];

	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw)) {
		lab_warn("getrandom: %s", strerror(errno));
		return -EIO;
	}
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(hex + 2 * i, 3, "%02x", raw[i]);
	hex[sizeof(hex) - 2] = '\n';
	return write_file(LAB_KEY, 0400, hex, sizeof(hex) - 1);
}

/* The value that -o gives to a keyword, or NULL. */
static bool is_set(const struct lab_opts *o, const char *key)
{
	size_t n = strlen(key);

	for (int i = 0; i < o->nconfig; i++)
		if (!strncmp(o->config[i], key, n) && o->config[i][n] == '=')
			return true;
	return false;
}

static void config_line(FILE *f, const struct lab_opts *o, const char *key, const char *value)
{
	if (!is_set(o, key))
		fprintf(f, "%s %s\n", key, value);
}

static int write_config(const struct lab_opts *o)
{
	char *text = NULL, range[64];
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return -ENOMEM;
	fprintf(f, "# made by bplab\n");
	snprintf(range, sizeof(range), "0 %s %s", lab_ip(LAB_ADDR(0)),
		 lab_ip(LAB_ADDR(o->nodes - 1)));
	config_line(f, o, "interface", "eth0");
	config_line(f, o, "iprange", range);
	config_line(f, o, "keyfile", LAB_KEY);
	config_line(f, o, "statedir", LAB_STATE);
	config_line(f, o, "pingtimeout", "10");
	for (int i = 0; i < o->nconfig; i++) {
		const char *eq = strchr(o->config[i], '=');

		fprintf(f, "%.*s %s\n", (int)(eq - o->config[i]), o->config[i], eq + 1);
	}
	fclose(f);
	r = write_file(LAB_CONFIG, 0644, text, len);
	free(text);
	return r;
}

/* Names for the lab's addresses, in front of the machine's own. */
static int write_hosts(const struct lab_opts *o)
{
	char *text = NULL, buf[4096];
	size_t len = 0, n;
	FILE *f = open_memstream(&text, &len), *old = fopen("/etc/hosts", "re");
	int r;

	if (!f) {
		if (old)
			fclose(old);
		return -ENOMEM;
	}
	fprintf(f, "%s master\n", lab_ip(LAB_MASTER_ADDR));
	for (int i = 0; i < o->nodes; i++)
		fprintf(f, "%s %s\n", lab_ip(LAB_ADDR(i)), lab_name(i));
	while (old && (n = fread(buf, 1, sizeof(buf), old)) > 0)
		fwrite(buf, 1, n, f);
	fclose(f);
	r = write_file(LAB_DIR "/hosts", 0644, text, len);
	free(text);
	if (!old)
		return r; /* no /etc/hosts here: addresses will do */
	fclose(old);
	return r < 0 ? r : mount_or_say(LAB_DIR "/hosts", "/etc/hosts", NULL, MS_BIND, NULL);
}

/* A shell's start file, so that the prompt tells that this is a lab. */
static int write_rc(void)
{
	static const char rc[] = "[ -f ~/.bashrc ] && . ~/.bashrc\n"
				 "export PATH=\"$BPLAB_PATH\"\n"
				 "PS1='[bplab \\h] \\w\\$ '\n";

	return write_file(LAB_DIR "/bashrc", 0644, rc, strlen(rc));
}

int setup_lab(const struct lab_opts *o)
{
	int r;

	if ((r = mount_or_say(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) < 0 ||
	    (r = mount_proc()) < 0 || (r = mount_run()) < 0)
		return r;
	if (o->log_dir && (r = mount_or_say(o->log_dir, LAB_LOG, NULL, MS_BIND, NULL)) < 0)
		return r;
	if ((r = write_config(o)) < 0 || (r = write_key()) < 0 || (r = write_rc()) < 0)
		return r;
	return write_hosts(o);
}

static int mount_pts(void)
{
	static const char opts[] = "newinstance,ptmxmode=0666,mode=0620";
	char with_tty[sizeof(opts) + 8];

	/* Group 5 is tty on Debian; in a user namespace it need not be mapped. */
	snprintf(with_tty, sizeof(with_tty), "%s,gid=5", opts);
	if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, with_tty) == 0)
		return 0;
	return mount_or_say("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, opts);
}

int setup_place(const struct lab_opts *o, int node)
{
	const char *name = lab_name(node);
	struct stat st;
	int r;

	(void)o;
	if (sethostname(name, strlen(name)) < 0) {
		lab_warn("sethostname: %s", strerror(errno));
		return -errno;
	}
	if ((r = mount_proc()) < 0 || (r = mount_pts()) < 0)
		return r;
	r = mount_or_say("tmpfs", "/run/bproc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	if (r < 0)
		return r;
	/* POSIX shared memory belongs to the ipc namespace's user, not to the machine. */
	if (stat("/dev/shm", &st) == 0 && S_ISDIR(st.st_mode))
		r = mount_or_say("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	return r;
}
