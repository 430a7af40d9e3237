/*
 * Connections that carry images: the data port, those to the ports of others, the workers with
 * TLS, and what comes on them before its move is known. bpslave; doc/streams.md.
 */
#pragma once

#include "slaved/bpslave.h"

/*
 * bpslave_target.c. A data connection has said whose it is; 0: the move has taken it, or -errno:
 * close it. back: by which the source hears of us, if not by fd; -1. Both are taken if it is 0.
 */
int move_on_data(const struct data_hdr *hdr, int fd, int back);

/* -- bpslave_early.c: what comes before the master's word on it */
int early_put(const struct data_hdr *hdr, int fd, int back); /* 0: they belong to it; or -errno */
/* The one that was promised so; its fds are the caller's. False: it has not come. */
bool early_take(const struct data_hdr *want, struct data_hdr *ret_hdr, int *ret_fd, int *ret_back);

/* -- bpslave_data.c: the data port */
int data_start(struct bproc_err *err);
void data_stop(void);
#define CLASS_TLS 'T'	       /* first byte of a connection to a data port: images in TLS follow */
int data_socket(void);	       /* to carry images, once it is connected; or -1 with errno */
void data_set_options(int fd); /* of a TCP socket that carries images */

/* -- bpslave_out.c: connections to the data ports of others, kept warm */
void out_stop(void);
/* The node table or the encryption has changed: what is kept warm follows. */
void data_refresh(void);
/*
 * What one image can be written to, blocking, with nothing sent on it: taken(fd or -errno, arg),
 * at once if one is warm. The fd belongs to taken. Cancel by the ticket, which is never 0.
 */
uint32_t data_take(int32_t node, void (*taken)(int fd, void *arg), void *arg);
void data_cancel(uint32_t ticket);
/*
 * Within taken(): by which the far side of that connection is heard. -1: by the fd itself; less:
 * -errno.
 */
int data_back(void);
void data_carries(uint64_t move); /* likewise: whose image it is, which may be lost with it */
/* One was taken, and now there is time to make another. */
void data_warm(int32_t node);

/* -- bpslave_hdr.c: what a data connection begins with (doc/streams.md, section 2) */
/* 0, or -EBADMSG: not a header of this version. */
int data_parse_hdr(const unsigned char *buf, size_t len, struct data_hdr *ret_hdr);
/* 0 if it is what was promised (pid 0: any); -EACCES, -ENOENT, -ESTALE, -EPROTO. */
int data_admits(const struct data_hdr *h, const struct data_hdr *want);

/* -- bpslave_tls.c: the bpdata workers */
struct worker;
/*
 * What the worker of a connection has to say. fd >= 0, which belongs to the callee: a client has
 * an end to write the next image to (hdr NULL), a server the end of an image that has begun, and
 * the BPDATA_HDR bytes in front of it; of a lazy move also back, which belongs to the callee as
 * well: what is written there its source hears; else -1. -errno: the connection is over, nothing
 * more is told.
 */
typedef void worker_fn(int fd, int back, const unsigned char *hdr, void *arg);
/* TLS on a connected socket, by a worker. tcp belongs to it at once. NULL: it is closed. */
struct worker *worker_start(int tcp, bool server, worker_fn *tell, void *arg);
/* Before a byte of the next image is sent: what the far side says to it goes to fd. 0, -errno. */
int worker_back(struct worker *w, int fd);
/* Nothing more is told. The connection ends, after the image that is on its way. */
void worker_end(struct worker *w);
void worker_stop_all(void);
