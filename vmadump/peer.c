/*
 * A process was refused for a unix socket whose other end somebody else has: who that is, if the
 * kernel tells. It is looked for when the text is there, which is seldom, and by who refuses: what
 * runs in the process knows of the socket alone. Library code.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmadump/blob/refuse.h"
#include "vmadump/others.h"

/* Of the socket with this inode, the peer's; 0: it has none, or is of another family. */
static uint32_t peer_of(uint32_t ino)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} ask = {.h = {.nlmsg_len = sizeof ask,
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST},
		 .r = {.sdiag_family = AF_UNIX,
		       .udiag_states = ~0u,
		       .udiag_ino = ino,
		       .udiag_show = UDIAG_SHOW_PEER,
		       .udiag_cookie = {~0u, ~0u}}};
	union {
		struct nlmsghdr h;
		char bytes[1024];
	} got;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	ssize_t n =
		fd < 0 || send(fd, &ask, sizeof ask, 0) < 0 ? -1 : recv(fd, &got, sizeof got, 0);
	const struct rtattr *a = (void *)(got.bytes + NLMSG_SPACE(sizeof(struct unix_diag_msg)));
	uint32_t peer = 0;

	if (fd >= 0)
		close(fd);
	if (n < (ssize_t)NLMSG_SPACE(sizeof(struct unix_diag_msg)) ||
	    got.h.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return 0;
	n -= (ssize_t)NLMSG_SPACE(sizeof(struct unix_diag_msg));
	for (; RTA_OK(a, n); a = RTA_NEXT(a, n))
		if (a->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(a) >= sizeof peer)
			memcpy(&peer, RTA_DATA(a), sizeof peer);
	return peer;
}

static int has_link(int pid, const char *want)
{
	DIR *d = proc_dir(pid, "fd");
	char link[64];
	const char *name;
	int found = 0;

	while (d && !found && proc_next(d, &name) >= 0) {
		ssize_t n = readlinkat(dirfd(d), name, link, sizeof link - 1);

		link[n > 0 ? n : 0] = 0;
		found = strcmp(link, want) == 0;
	}
	if (d)
		closedir(d);
	return found;
}

/* Who has socket ino open, but process but; 0. */
static int who_has(uint32_t ino, int but)
{
	DIR *d = opendir("/proc");
	const char *name;
	char want[32];
	int pid, found = 0;

	snprintf(want, sizeof want, "socket:[%u]", ino);
	while (d && !found && (pid = proc_next(d, &name)) >= 0)
		found = pid != but && has_link(pid, want) ? pid : 0;
	if (d)
		closedir(d);
	return found;
}

void others_name_peer(pid_t pid, char text[VMAD_TEXT_MAX])
{
	struct vmad_err plain, more;
	struct trace t = {.err = &plain};
	int fd, at = 0, of, other;
	char path[48], name[16] = "";
	struct stat st;
	uint32_t peer;

	/* Of one of a tree its number is said first. */
	if (sscanf(text, "process %d: %n", &of, &at) == 1 && at)
		pid = of;
	if (sscanf(text + at, "fd %d is a socket", &fd) != 1)
		return;
	trace_refuse(&t, REFUSE_FD_SOCKET, fd);
	if (strcmp(text + at, plain.text) != 0)
		return;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
	peer = stat(path, &st) < 0 ? 0 : peer_of((uint32_t)st.st_ino);
	other = peer ? who_has(peer, pid) : 0;
	if (!other)
		return;
	freeze_name(other, other, name);
	t.err = &more;
	trace_refuse(&t, REFUSE_FD_PEER, fd, other, name);
	snprintf(text + at, VMAD_TEXT_MAX - (size_t)at, "%s", more.text);
}
