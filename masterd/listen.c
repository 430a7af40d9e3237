/*
 * The port of the master: one listening socket, or two when an interface is
 * configured, so that the front end's own slave still gets in by loopback. Runs
 * in bpmaster.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <event2/listener.h>

#include "libbproc/log.h"
#include "libbproc/sysio.h"
#include "master.h"

#define PAUSE_S 1 /* after running out of descriptors */

struct listener {
	struct evconnlistener *ev[2];
};

static void accepted(struct evconnlistener *ev, evutil_socket_t fd, struct sockaddr *from, int len,
		     void *arg)
{
	(void)ev;
	(void)from;
	(void)len;
	peer_accept(arg, fd);
}

static void set_enabled(struct master *m, bool on)
{
	for (int i = 0; i < 2; i++) {
		if (!m->listener->ev[i])
			continue;
		if (on)
			evconnlistener_enable(m->listener->ev[i]);
		else
			evconnlistener_disable(m->listener->ev[i]);
	}
}

static void accept_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	set_enabled(arg, true);
}

static void accept_failed(struct evconnlistener *ev, void *arg)
{
	struct timeval tv = {.tv_sec = PAUSE_S};
	struct master *m = arg;

	(void)ev;
	log_error("accept: %s: no new slaves for %d s", strerror(EVUTIL_SOCKET_ERROR()), PAUSE_S);
	set_enabled(m, false);
	event_add(m->accept_again, &tv);
}

static int interface_addr(const char *name, struct in_addr *ret_addr)
{
	struct ifaddrs *list, *i;
	int r = -ENODEV;

	if (getifaddrs(&list) < 0)
		return -errno;
	for (i = list; i && r < 0; i = i->ifa_next) {
		if (strcmp(i->ifa_name, name) != 0 || !i->ifa_addr ||
		    i->ifa_addr->sa_family != AF_INET)
			continue;
		*ret_addr = ((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr;
		r = 0;
	}
	freeifaddrs(list);
	return r;
}

static int open_one(struct master *m, int i, struct in_addr addr, struct bproc_err *err)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(m->conf.port),
		.sin_addr = addr,
	};
	char ip[INET_ADDRSTRLEN];

	m->listener->ev[i] = evconnlistener_new_bind(m->base, accepted, m,
						     LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC |
							     LEV_OPT_REUSEABLE,
						     SOMAXCONN, (struct sockaddr *)&a, sizeof(a));
	if (!m->listener->ev[i])
		return bproc_err_set(err, errno, "port %u of %s: %s", m->conf.port,
				     inet_ntop(AF_INET, &addr, ip, sizeof(ip)), strerror(errno));
	evconnlistener_set_error_cb(m->listener->ev[i], accept_failed);
	tcp_unpaced(evconnlistener_get_fd(m->listener->ev[i]));
	return 0;
}

int listen_start(struct master *m, struct bproc_err *err)
{
	struct in_addr addr = {.s_addr = htonl(INADDR_ANY)};
	int r;

	m->listener = calloc(1, sizeof(*m->listener));
	m->accept_again = evtimer_new(m->base, accept_again, m);
	if (!m->listener || !m->accept_again)
		return bproc_err_set(err, ENOMEM, "no memory");
	if (m->conf.interface[0]) {
		r = interface_addr(m->conf.interface, &addr);
		if (r < 0)
			return bproc_err_set(err, -r, "interface %s has no IPv4 address",
					     m->conf.interface);
	}
	r = open_one(m, 0, addr, err);
	if (r == 0 && addr.s_addr != htonl(INADDR_ANY) && addr.s_addr != htonl(INADDR_LOOPBACK))
		r = open_one(m, 1, (struct in_addr){.s_addr = htonl(INADDR_LOOPBACK)}, err);
	return r;
}

void listen_stop(struct master *m)
{
	if (m->listener) {
		for (int i = 0; i < 2; i++)
			if (m->listener->ev[i])
				evconnlistener_free(m->listener->ev[i]);
		free(m->listener);
		m->listener = NULL;
	}
	if (m->accept_again)
		event_free(m->accept_again);
	m->accept_again = NULL;
}
