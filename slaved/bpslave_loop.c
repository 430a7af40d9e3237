/*
 * bpslave: descriptors and timers of its loop, in one call each.
 */
#include "slaved/bpslave.h"

struct event *watch_fd(int fd, short what, event_callback_fn fn, void *arg)
{
	struct event *ev = event_new(slave.base, fd, what | EV_PERSIST, fn, arg);

	if (ev && event_add(ev, NULL) < 0)
		free_event(&ev);
	return ev;
}

struct event *new_timer(event_callback_fn fn, void *arg)
{
	return event_new(slave.base, -1, 0, fn, arg);
}

void start_timer(struct event *ev, uint32_t ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_add(ev, &tv);
}

void free_event(struct event **ev)
{
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}
