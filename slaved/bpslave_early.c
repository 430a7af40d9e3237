/*
 * Images that come before the master's word on them: the two travel by different ways. Held,
 * unread, for a short time. Runs in bpslave of the target.
 */
#include <errno.h>
#include <stdlib.h>

#include "bpslave.h"
#include "bpslave_data.h"
#include "libbproc/log.h"

#define EARLY_MAX 512
#define EARLY_MS 5000

struct early {
	LIST_ENTRY(early) next;
	struct data_hdr hdr;
	int fd, back;	     /* owned */
	struct event *timer; /* owned */
};
static LIST_HEAD(, early) earlies = LIST_HEAD_INITIALIZER(earlies);
static int nearly;

static void end_early(struct early *y)
{
	LIST_REMOVE(y, next);
	free_event(&y->timer);
	close_fd(y->fd);
	close_fd(y->back);
	free(y);
	nearly--;
}

static void on_early_late(evutil_socket_t fd, short what, void *arg)
{
	struct early *y = arg;

	(void)fd;
	(void)what;
	log_stranger("a data connection for a move that the master has not announced");
	end_early(y);
}

bool early_take(const struct data_hdr *want, struct data_hdr *ret_hdr, int *ret_fd, int *ret_back)
{
	struct early *y;

	LIST_FOREACH(y, &earlies, next)
	{
		if (data_admits(&y->hdr, want) != 0)
			continue;
		*ret_hdr = y->hdr;
		*ret_fd = take_fd(y->fd);
		*ret_back = take_fd(y->back);
		end_early(y);
		return true;
	}
	return false;
}

int early_put(const struct data_hdr *hdr, int fd, int back)
{
	struct early *y = nearly < EARLY_MAX ? calloc(1, sizeof(*y)) : NULL;

	if (!y)
		return -ENOENT;
	y->hdr = *hdr;
	y->timer = new_timer(on_early_late, y);
	if (!y->timer) {
		free(y);
		return -ENOMEM;
	}
	y->fd = fd;
	y->back = back;
	start_timer(y->timer, EARLY_MS);
	LIST_INSERT_HEAD(&earlies, y, next);
	nearly++;
	return 0;
}
