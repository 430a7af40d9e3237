/*
 * What the event program tells bpslave: one record for each thing that happens to a
 * process of the node. Included by both; numbers are of the node's pid namespace.
 */
#pragma once

/* Where the blob lies: vmadump/blob/blob.h, and the addresses tried after that one. */
#define BLOB_LOW 0x300000000000ul
#define BLOB_HIGH (BLOB_LOW + (8ul << 30))
#define SKELETON_NAME "bproc-pool" /* CHAN_SKELETON_NAME of vmadump/blob/channel.h */

enum event_type {
	EVENT_FORK = 1, /* a process was born: pid, ppid, pgid, sid, uid, gid, comm */
	EVENT_EXEC,	/* pid, comm */
	EVENT_NAME,	/* its first thread was renamed: pid, comm */
	EVENT_EXIT,	/* the last thread has ended: pid, status as of wait() */
	EVENT_REAPED,	/* its number is free: pid */
	EVENT_LOOK,	/* sent a signal that stops or continues it: pid, by_kernel, signal in
			 * status */
};

struct event_record {
	unsigned int type;
	int pid;
	int ppid;   /* its parent; 0: outside of the namespace */
	int pgid, sid;
	unsigned int uid, gid;
	int status;
	int by_kernel; /* no process has sent it */
	char comm[16];
	/* Exit: what it has used, by its ticks and exactly; its children that it has waited for. */
	unsigned long long utime_ns, stime_ns, ran_ns, cutime_ns, cstime_ns, maxrss_pages;
};
