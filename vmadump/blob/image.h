/*
 * The image as doc/image.md lays it out: constants, limits, and the functions
 * that put numbers into it and get them out. Shared by dump and restore.
 */
#pragma once

#include <elf.h>
#include <stdint.h>

/*
 * Version rule: a reader takes exactly its own version. It changes when the
 * layout of the stream, of NEED, or of a record that is already there changes.
 * A new record needs no new version: its flag says whether an older reader may
 * skip it.
 */
#define IMAGE_VERSION 1

#define IMAGE_PAGE 4096u
#define IMAGE_NAME "VMADUMP" /* of our notes; 8 bytes with its NUL */
/*
 * Types of our notes. Not 1, 2, 3: a reader that does not know the name would
 * take those for NT_PRSTATUS and friends.
 */
#define IMAGE_NOTE_NEED 0x564d0001u
#define IMAGE_NOTE_STATE 0x564d0002u
#define IMAGE_NOTE_SUM 0x564d0003u
#define IMAGE_NOTE_END 0x564d0004u
#define IMAGE_END_MAGIC 0x444e45504d414456ull /* "VDAMPEND" in the file */

#define IMAGE_PREFIX 120u /* ELF header and program header 0: what is read first */
#define IMAGE_NEED_LEN 368u
#define IMAGE_SUM_NOTE 28u /* a whole SUM note: header 12, name 8, sum 8 */
#define IMAGE_END_NOTE 36u /* a whole END note: header 12, name 8, 2 numbers */

/*
 * Instead of an image, when there will be none: u64 magic, u32 errno, u32 0, text
 * with its NUL, zeros to the end. Longer than IMAGE_PREFIX.
 */
#define IMAGE_FAIL_MAGIC 0x4c494146504d4456ull /* "VDMPFAIL" in the stream */
#define IMAGE_FAIL_LEN 176u
#define IMAGE_FAIL_TEXT 160u

/* Limits. What is over one is refused by the dump and by the restore alike. */
#define IMAGE_HEAD_MAX (256ul << 20) /* bytes before the first page */
#define IMAGE_RUNS_MAX (1u << 20)
#define IMAGE_VMAS_MAX 65536u /* vm.max_map_count is 65530 */
#define IMAGE_FILES_MAX 65536u
#define IMAGE_FDS_MAX 65536u
#define LIVE_GONE_MAX (1u << 20)
#define LIVE_REC_HEAD 16u
#define IMAGE_GROUPS_MAX 65536u /* NGROUPS_MAX */
#define IMAGE_TIMERS_MAX 4096u
#define IMAGE_AUXV_MAX 64u /* pairs */
#define IMAGE_PATH_MAX 4096u
#define IMAGE_CGROUP_MAX 4096u
#define IMAGE_SECCOMP_MAX (1u << 20)	 /* bytes; the kernel lets a thread have 256 KiB of them */
#define IMAGE_ADDR_MAX 0x7ffffffff000ull /* four-level page tables, x86-64 */

/* STATE is a row of records: u16 tag, u16 flags, u32 length, bytes, pad to 8. */
#define IMAGE_REC_HEAD 8u
#define IMAGE_REC_REFUSE 1u /* a reader that does not know the tag refuses the image */
enum image_tag {
	TAG_REGS = 1,
	TAG_SIGNALS = 2,
	TAG_PENDING = 3,
	TAG_ITIMERS = 4,
	TAG_TIMERS = 5,
	TAG_MM = 6,
	TAG_IDENT = 7,
	TAG_PROC = 8,
	TAG_CWD = 9,
	TAG_RLIMITS = 10,
	TAG_STRINGS = 11,
	TAG_FILES = 12,
	TAG_VMAS = 13,
	TAG_FDS = 14, /* all up to here must be there */
	TAG_THREADS = 15,
	TAG_SCHED = 16,
	TAG_OBJECTS = 17,
	TAG_LOCKS = 18,
	TAG_TREE = 19, /* these three: tree.h */
	TAG_MEMORY = 20,
	TAG_MEMBER = 21,
	TAG_CLOCKS = 22, /* may be skipped */
	TAG_VDSO = 23,	 /* as well */
	TAG_SECCOMP = 24,
	TAG_ROOT = 25,
	TAG_CGROUP = 26,       /* may be skipped */
	TAG_LIVE = 27,	       /* what of its memory went ahead: live.h */
	TAG_SECCOMP_EACH = 28, /* in place of TAG_SECCOMP, of threads that differ */
	TAG_NNP = 29,	  /* of threads that differ: u32 of each but the first, 1: no_new_privs */
	TAG_PRCTL = 30,	  /* u32 of each thread, the first one's first: PRCTL_*; of none: all 0 */
	TAG_FD_MORE = 31, /* what few set of a descriptor: enum fd_more */
	TAG_GUARDS = 32,  /* u64 start, end each: MADV_GUARD_INSTALL */
	TAG_LAST = TAG_GUARDS,
};

/* Bytes of one entry of the records that are arrays, and of the fixed ones. */
#define REC_REGS_LEN (27 * 8 + 8 + 8 + 24)
#define REC_SIGNAL_LEN 40u
#define REC_PENDING_LEN 136u
#define REC_ITIMERS_LEN (3 * 32u)
#define REC_TIMER_LEN 72u
#define REC_MM_LEN (12 * 8u)
#define REC_IDENT_FIXED 96u
#define REC_PROC_LEN 120u
#define PROC_SUBREAPER 1u
#define PROC_LOCKS_NEW 2u	   /* mlockall(MCL_FUTURE), */
#define PROC_LOCKS_TOUCHED 4u	   /* with MCL_ONFAULT */
#define PROC_MEMBARRIER 16u	   /* shift: MEMBARRIER_CMD_REGISTER_* that it has called */
#define PROC_CORE_KNOWN (1u << 31) /* in the word behind: /proc/PID/coredump_filter */
#define REC_CLOCKS_LEN 32u
#define PRCTL_TSC 1u   /* to read the time stamp counter is SIGSEGV */
#define PRCTL_EARLY 2u /* a broken page of memory is told at once, */
#define PRCTL_LATE 4u  /* or when it is touched: PR_MCE_KILL */
#define PRCTL_MERGE 8u /* of the process, in each: PR_SET_MEMORY_MERGE */
#define PRCTL_ALL 15u
#define SECCOMP_HEAD 8u /* u32 mode, u32 filters; for each u32 flags, u32 instructions, those */
/* Of each thread: u32 SECCOMP_EACH, u32 threads; for each u32 id, u32 1: no_new_privs, a list. */
#define SECCOMP_EACH 3u /* where a list has its mode */
#define VDSO_MOST 65536u
#define REC_RLIMITS_LEN (16 * 16u)
#define REC_FILE_LEN 56u
#define REC_VMA_LEN 56u
#define REC_FD_LEN 40u
#define REC_THREAD_LEN 328u
#define REC_SCHED_LEN 192u
#define REC_MORE_LEN 16u /* u32 descriptor, u32 what, u64 value */
#define REC_GUARD_LEN 16u
#define GUARDS_MAX 65536u

enum fd_more {
	MORE_OWNER = 1,	   /* F_SETOWN_EX: u32 type, u32 id */
	MORE_SIGNAL = 2,   /* F_SETSIG */
	MORE_ASYNC = 3,	   /* O_ASYNC */
	MORE_RCVTIMEO = 4, /* of a socket: microseconds, */
	MORE_SNDTIMEO = 5,
	MORE_PEEK_OFF = 6, /* and SO_PEEK_OFF */
	MORE_LAST = MORE_PEEK_OFF,
};

enum image_special { SPECIAL_VVAR = 1, SPECIAL_VVAR_VCLOCK = 2, SPECIAL_VDSO = 3 };

/* Bits of NEED's abilities: what the restoring kernel must be able to do. */
#define NEED_RSEQ 1u
#define NEED_TIMER_IDS 2u
#define NEED_SEAL 4u
#define NEED_AMX 8u

enum vma_kind {
	VMA_ANON = 1,
	VMA_ANON_SHARED = 2,
	VMA_FILE = 3,
	VMA_FILE_SHARED = 4,
	VMA_MEMORY = 5, /* of what TAG_MEMORY of the tree's first process has */
};
#define VMA_GROWSDOWN 0x1u
#define VMA_NORESERVE 0x2u
#define VMA_DROPPABLE 0x4u
#define VMA_JOINED 0x8u /* ANON_SHARED: the same object as the VMA before, and next to it */
#define VMA_LOCKED 0x10u
#define VMA_LOCK_ON_FAULT 0x20u
#define VMA_SEALED 0x40u
#define VMA_DONTFORK 0x100u
#define VMA_WIPEONFORK 0x200u
#define VMA_HUGEPAGE 0x400u
#define VMA_NOHUGEPAGE 0x800u
#define VMA_MERGEABLE 0x1000u
#define VMA_DONTDUMP 0x2000u
#define VMA_SEQUENTIAL 0x4000u
#define VMA_RANDOM 0x8000u
#define VMA_LAZY 0x10000u /* its pages come when it runs: lazy.h */
#define VMA_ALL_FLAGS 0x1ff7fu
#define VMA_NO_FILE 0xffffffffu

enum file_id { FILE_BUILD_ID = 1, FILE_SIZE_MTIME = 2, FILE_ANY = 3 };
#define FILE_ID_MAX 32u /* bytes of a build-id that are kept */
#define FILE_WRITE 1u	/* is mapped shared and writable: open it for writing */
#define FILE_EXE 2u	/* is the program */
#define FILE_HINT 4u	/* nothing is mapped from it: what /proc/PID/exe shows, if it is there */

enum fd_kind {
	FD_FILE = 1,
	FD_DIR = 2,
	FD_DEV = 3,
	FD_STREAM = 4,
	FD_DUP = 5,
	FD_OBJECT = 6,
	FD_TREE = 7, /* shares a description of the tree's first process */
};
#define FD_CLOEXEC_FLAG 1u
#define FD_OTHERS_FLAG 2u /* it is there for others of the tree, not for this one */

static inline void put16(uint8_t *p, uint16_t v)
{
	__builtin_memcpy(p, &v, 2);
}
static inline void put32(uint8_t *p, uint32_t v)
{
	__builtin_memcpy(p, &v, 4);
}
static inline void put64(uint8_t *p, uint64_t v)
{
	__builtin_memcpy(p, &v, 8);
}
static inline uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	__builtin_memcpy(&v, p, 2);
	return v;
}
static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, 4);
	return v;
}
static inline uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, 8);
	return v;
}

/*
 * The sum that guards the head: 64-bit words, least significant byte first, the
 * last one filled with zeros. It finds damage, not malice.
 */
static inline uint64_t image_sum(uint64_t sum, const uint8_t *p, uint64_t n)
{
	for (; n >= 8; p += 8, n -= 8)
		sum = ((sum ^ get64(p)) * 0x9e3779b97f4a7c15ull) ^ (sum >> 29);
	if (n) {
		uint64_t last = 0;

		for (uint64_t i = 0; i < n; i++)
			last |= (uint64_t)p[i] << (8 * i);
		sum = ((sum ^ last) * 0x9e3779b97f4a7c15ull) ^ (sum >> 29);
	}
	return sum;
}

/* Positions within NEED. */
enum need_at {
	NEED_VERSION = 0,
	NEED_ARCH = 4,
	NEED_PAGE = 8,
	NEED_ABILITIES = 12,
	NEED_XCR0 = 16,
	NEED_XSTATE_BV = 24,
	NEED_XSAVE_LEN = 32,
	NEED_NSPECIAL = 36,
	NEED_CPUID = 40,
	NEED_VDSO_SUM = 64,
	NEED_BLOB_AT = 72,
	NEED_SPECIALS = 80, /* 4 of 24: start, len, kind, zero */
	NEED_XCOMP = 176,   /* 20 of 8: offset, length */
	NEED_BLOB_LEN = 336,
	NEED_PAGE_BYTES = 344,
	NEED_TOTAL = 352,
	NEED_NRUNS = 360,
	NEED_PID = 364, /* it had; whoever clones the process has to know it first */
};
