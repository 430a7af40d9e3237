/*
 * What bpinit says (bpslave_heard.c), as the link to it (bpslave_init.c) hands it on.
 */
#pragma once

#include "bpslave.h"

int heard_start(void); /* 0 or -ENOMEM */
void heard_stop(void);
/* All that bpinit holds is about to be told anew: the number that its INIT_HELLO has. */
uint32_t heard_hello(void);
void heard_message(const struct init_msg *m);
void heard_none(void); /* all that it holds is being killed */
void heard_lost(void); /* that bpinit is no more */
void heard_ack(void);  /* what has been gathered, now */
