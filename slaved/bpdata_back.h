/*
 * bpdata: what the server says to the sender of an image, besides that it has it.
 */
#pragma once

#include <openssl/ssl.h>

struct back {
	int fd;	   /* owned; -1: nobody listens */
	int lazy;  /* 1: something may come */
	int heard; /* and has */
};

/* The server's next frame. 1: DONE; 0: it is handed on, and lost if the sender has gone. */
int back_frame(SSL *ssl, struct back *back);
/* Between images, from bpslave: the next one's far side is heard by this. 0 or -errno. */
int back_order(struct back *back);
