/*
 * The threads but the first of a process that has left: they end, or they stay with its ghost
 * and keep their numbers until their originals come back into them. Runs in the blob.
 */
#include "image.h"
#include "lib.h"
#include "restore.h"
#include "sys.h"
#include "thread.h"

static struct blob_thread *kept_at(const struct blob *b, uint32_t i)
{
	return (void *)(b->kept + (uint64_t)i * b->kept_len);
}

/* The kernel clears tid when a thread has left its stack for good. */
static void wait_end(struct blob_thread *t)
{
	uint32_t *at = (uint32_t *)&t->tid, tid;

	while ((tid = __atomic_load_n(at, __ATOMIC_ACQUIRE)))
		thread_wait(at, tid);
}

void blob_end_threads(struct blob *b)
{
	if (!b->nthreads)
		return;
	thread_release(b, RELEASE_END);
	for (uint32_t i = 0; i < b->nthreads; i++)
		wait_end(thread_at(b, i));
	b->nthreads = 0;
}

void blob_keep_threads(struct blob *b)
{
	uint32_t n = b->nthreads;

	if (!n)
		return;
	__atomic_store_n(&b->parked, 0, __ATOMIC_RELEASE);
	thread_release(b, RELEASE_STAY);
	blob_wait_parked(b, n);
	b->kept = b->threads;
	b->kept_len = b->thread_len;
	b->nkept = n;
	b->nthreads = 0;
}

static void order(struct blob_thread *t, enum thread_order what)
{
	__atomic_store_n(&t->order, what, __ATOMIC_RELEASE);
	sys_futex(&t->order, FUTEX_WAKE, 1, NULL);
}

/* Most are where they were when they left. */
static struct blob_thread *find_kept(const struct blob *b, uint32_t hint, int32_t tid)
{
	if (!tid)
		return NULL;
	if (hint < b->nkept && kept_at(b, hint)->tid == tid)
		return kept_at(b, hint);
	for (uint32_t i = 0; i < b->nkept; i++)
		if (kept_at(b, i)->tid == tid)
			return kept_at(b, i);
	return NULL;
}

int blob_has_kept(const struct blob *b, uint32_t hint, int32_t tid)
{
	return find_kept(b, hint, tid) != NULL;
}

int blob_wake_kept(struct blob *b, uint32_t hint, struct blob_thread *t)
{
	struct blob_thread *k = find_kept(b, hint, t->tid);

	if (!k)
		return 0;
	t->next = (uint64_t)k;
	k->tid = 0;
	k->next = (uint64_t)t;
	order(k, THREAD_NEXT);
	return 1;
}

void blob_end_kept(struct blob *b)
{
	for (uint32_t i = 0; i < b->nkept; i++)
		if (kept_at(b, i)->tid)
			order(kept_at(b, i), THREAD_END);
	for (uint32_t i = 0; i < b->nkept; i++)
		wait_end(kept_at(b, i));
}

void blob_give_back_threads(struct blob *b)
{
	if (!b->nthreads)
		return;
	thread_release(b, RELEASE_BACK);
	for (uint32_t i = 0; i < b->nthreads; i++)
		wait_end(thread_at(b, i));
	b->nthreads = 0;
}

/*
 * Nothing of it may reach memory that is another's by then: not its robust list, which
 * may lead into what it shares with others, and not what libc has registered.
 */
static void forget(struct blob_thread *t)
{
	if (t->rseq_addr)
		sys_rseq((void *)t->rseq_addr, t->rseq_len, 1, t->rseq_sig);
	sys_set_robust_list(NULL, 24);
	sys_set_tid_address(NULL);
}

/* They have gone with the image. */
static void drop_pending(const struct blob *b, const struct blob_thread *t)
{
	const struct blob_pending *p = (void *)b->pending;
	const struct timespec now = {0};
	uint8_t info[128];

	for (uint32_t i = 0; i < b->npending; i++, p++) {
		uint64_t set = 1ul << ((get32(p->info) - 1) & 63);

		if (p->tid == (uint64_t)t->tid)
			sys_sigtimedwait(&set, info, &now);
	}
}

static _Noreturn void become(struct blob_thread *t)
{
	__asm__ volatile("jmp *%[entry]"
			 :
			 : [entry] "r"(((struct blob *)t->blob)->base + BLOB_THREAD_ENTRY), "D"(t)
			 : "memory");
	__builtin_unreachable();
}

static _Noreturn void end(struct blob_thread *t)
{
	sys_set_tid_address(&t->tid);
	for (;;)
		sys_exit(0);
}

static _Noreturn void obey(struct blob_thread *t)
{
	uint32_t what;

	while (!(what = __atomic_load_n(&t->order, __ATOMIC_ACQUIRE)))
		thread_wait(&t->order, THREAD_WAIT);
	if (what == THREAD_NEXT)
		become((void *)t->next);
	end(t);
}

_Noreturn void thread_stay(struct blob *b, struct blob_thread *t, int to_end)
{
	forget(t);
	if (to_end)
		end(t);
	drop_pending(b, t);
	__atomic_add_fetch(&b->parked, 1, __ATOMIC_RELEASE);
	sys_futex(&b->parked, FUTEX_WAKE, 1, NULL);
	obey(t);
}

/* To where it waited before: what it is in now is about to go. */
_Noreturn void thread_back(struct blob *b, struct blob_thread *t)
{
	struct blob_thread *k = (void *)t->next;

	forget(t);
	rest_unqueue((void *)b->restore, t->tid);
	k->restored = THREAD_BACK;
	k->tid = t->tid;
	__atomic_store_n(&k->order, THREAD_WAIT, __ATOMIC_RELEASE);
	become(k);
}

/* On its own stack again, nothing of the other is needed: as if it had ended there. */
_Noreturn void thread_kept_again(struct blob_thread *k)
{
	struct blob_thread *t = (void *)k->next;

	__atomic_store_n(&t->tid, 0, __ATOMIC_RELEASE);
	sys_futex((uint32_t *)&t->tid, FUTEX_WAKE, 1, NULL);
	obey(k);
}
