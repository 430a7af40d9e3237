/*
 * What a user's process gives to a daemon: descriptors, of anything whatever, and sockets whose
 * other end, or a copy of the same end, is his. The last close of a descriptor may wait as long as
 * its owner likes: of a file of a FUSE server for that (each close does), of a TCP socket with
 * SO_LINGER for its reader. So a daemon does not do it itself, nor has it done by the kernel, which
 * closes what a message brings that is not taken in.
 */
#pragma once

#include "libbproc/sysio.h"

/* pkt_recv() without waiting. One with more than SYSIO_FDS_MAX descriptors is EMSGSIZE. */
int foreign_recv(int sock, void *buf, size_t size, struct sysio_pkt *pkt);
/* Closed by somebody else, soon. */
void foreign_pkt_close(struct sysio_pkt *pkt);
int foreign_close(int fd); /* -1 */
/* A socket that is not read any more, with all that is in it; it is used nowhere else. -1. */
int foreign_end(int sock);
/* A SOCK_SEQPACKET unix socket. */
bool foreign_is_channel(int fd);
/* Is this what the kernel calls an object of no file system, "anon_inode:[userfaultfd]"? */
bool foreign_is(int fd, const char *what);
