/*
 * What the files of a link share (link.h): link.c has its life and what it reads,
 * link_send.c what it sends.
 */
#pragma once

#include <stdbool.h>
#include <event2/bufferevent.h>

#include "link.h"

#define LINK_LATER_MAX 1024 /* bytes that wait for company */

enum link_state { CONNECTING, HANDSHAKE, UP, FINISHING, DOWN };

struct link {
	enum link_state state;
	bool server, full;
	bool doomed; /* the queue ran over: on_down comes from the loop, not inside link_send */
	bool dead;   /* link_free was called inside a callback */
	int depth;   /* callbacks that hold the struct */
	int fd;	     /* owned until bev has it; -1 then */
	struct event_base *base;
	SSL_CTX *ctx;		 /* one reference */
	struct bufferevent *bev; /* owned; NULL while connecting */
	struct event *connect;	 /* owned; writable means connected or not */
	struct event *timer;	 /* owned; handshake or finish */
	struct {
		struct event *timer; /* owned; on while there is anything */
		size_t len;
		unsigned char frames[LINK_LATER_MAX]; /* whole ones */
	} later;
	const struct link_ops *ops;
	void *arg;
	struct sockaddr_in peer;
	char name[32];
};

static inline void link_set_timer(struct link *l, unsigned int ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_add(l->timer, &tv);
}

/* What waits goes out, or into the queue. Of a link that is up. */
void link_later_flush(struct link *l);
void link_later_due(evutil_socket_t fd, short what, void *arg);
