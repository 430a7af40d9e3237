/*
 * Types and numbers that the programs of BProc 4 know, with their names, values
 * and layouts (sys/bproc_common.h of BProc 4.0.0pre8). Included by sys/bproc.h;
 * nobody needs to include it directly.
 *
 * C99 and C++. Nothing here changes size: these structures are part of the ABI.
 */
#ifndef _SYS_BPROC_COMMON_H
#define _SYS_BPROC_COMMON_H

#include <stdint.h>
#include <sys/socket.h>

/* -- version ---------------------------------------------------------------- */

/* First bytes of struct bproc_version_t; three characters, no NUL. */
/* clang-format off */
#define BPROC_MAGIC {'B', 'P', 'r'}
/* clang-format on */

/* Values of bproc_version_t.arch. Only x86_64 is made today. */
enum {
	BPROC_ARCH_X86 = 1,
	BPROC_ARCH_ALPHA = 2,
	BPROC_ARCH_PPC = 3,
	BPROC_ARCH_X86_64 = 4,
	BPROC_ARCH_PPC64 = 5
};
#if defined(__x86_64__)
#define BPROC_ARCH BPROC_ARCH_X86_64
#else
#error "BProc is made for x86_64 only"
#endif

/**
 * struct bproc_version_t - what bproc_version() tells.
 * @bproc_magic: BPROC_MAGIC.
 * @arch: BPROC_ARCH_* of this machine.
 * @magic: the local protocol of the daemon; library and daemon must agree.
 * @version_string: version of the daemon, NUL-terminated ("0.1.0").
 */
struct bproc_version_t {
	char bproc_magic[3];
	uint8_t arch;
	uint32_t magic;
	char version_string[24];
};

/* -- nodes ------------------------------------------------------------------ */

/* Node attributes: the names begin so, and these are their limits (bytes, bytes,
 * attributes of a node). For source compatibility; no call uses them yet. */
#define BPROC_XATTR_PREFIX "bproc."
#define BPROC_STATE_XATTR "bproc.state"
#define BPROC_ADDR_XATTR "bproc.addr"
#define BPROC_XATTR_MAX_NAME_SIZE 63
#define BPROC_XATTR_MAX_VALUE_SIZE 64
#define BPROC_XATTR_MAX 32

/* Longest name of a node state, in characters without the NUL. */
#define BPROC_STATE_LEN 15

/**
 * struct bproc_node_info_t - one node, as bproc_nodelist() and bproc_nodeinfo() tell it.
 * @node: its number; BPROC_NODE_MASTER (-1) is the front end.
 * @status: its state: "down", "boot", "up", "error", "unavailable" or any other
 *          name [A-Za-z][A-Za-z0-9_]*. Only "down" has a meaning here: no bpslave
 *          is connected.
 * @mode: who may start processes there: the execute bits 0111 of a file mode.
 * @user: numeric owner.
 * @group: numeric group.
 * @addr: AF_INET address of its bpslave; 0.0.0.0 if it never connected.
 */
struct bproc_node_info_t {
	int node;
	char status[BPROC_STATE_LEN + 1];
	unsigned int mode;
	unsigned int user;
	unsigned int group;
	struct sockaddr addr;
};

/* -- redirections ------------------------------------------------------------ */

/* Redirections of one call, at most. */
#define BPROC_IO_MAX_LEN 16
/* bproc_io_t.type: open a file there; connect a socket; internal to BProc 4. */
#define BPROC_IO_FILE 0x000
#define BPROC_IO_SOCKET 0x001
#define BPROC_IO_MEMFILE 0x002
/* bproc_io_t.flags: write pid and fd on the socket first; connect after the move. */
#define BPROC_IO_SEND_INFO 0x001
#define BPROC_IO_DELAY 0x002

/**
 * struct bproc_io_t - one redirection of the _io calls of BProc 4.
 *
 * For source compatibility. The _io calls are not in this version: stdin, stdout
 * and stderr of a process that leaves are forwarded by themselves (bproc(7)).
 */
struct bproc_io_t {
	int fd;
	short type;
	short flags;
	union {
		struct sockaddr addr;
		struct {
			int flags;
			int mode;
			long offset;
			char name[256];
		} file;
		struct {
			void *base;
			long size;
		} mem;
	} d;
};

/* -- processes --------------------------------------------------------------- */

/**
 * struct bproc_proc_info_t - one process that runs on a node.
 * @pid: its number, the same everywhere.
 * @node: where it runs.
 */
struct bproc_proc_info_t {
	int pid;
	int node;
};

/* -- errors ------------------------------------------------------------------ */

/*
 * errno values of BProc's own; bproc_strerror() has their texts.
 * INVALIDNODE: no such node is configured. NODEDOWN: no bpslave is connected from
 * it. SAMENODE: the process is there already. SLAVEDIED: the node was lost before
 * the call had ended. INVALIDPROC: no such process in the cluster.
 */
#define BE_INVALIDNODE 300
#define BE_NODEDOWN 301
#define BE_SAMENODE 302
#define BE_SLAVEDIED 303
#define BE_INVALIDPROC 304

#endif
