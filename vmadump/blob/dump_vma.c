/*
 * The mappings of this process, from /proc/self/smaps: which kind each is, which
 * file it refers to and how that file can be told from another build of it.
 * Runs in the blob.
 */
#include "cpu.h"
#include "dump.h"
#include "lib.h"
#include "proc.h"
#include "refuse.h"
#include "sys.h"
#include "tree.h"

/* VmFlags that no flag of ours carries, of the mapping being read. */
struct other_flags {
	uint32_t missing; /* a userfaultfd tells of pages that are not there */
	uint32_t pfn, hugetlb, uffd, may_write, shstk;
	uint32_t tracked; /* as its own memory is that went ahead (live.h) */
};

/* Of an entry, which is longer: who reads no more at once has none made ahead (dump_lift.c). */
#define ENTRY_PART 128u

#define TWO(a, b) ((uint32_t)(a) | (uint32_t)(b) << 8)

static void vm_flags(struct dump_vma *v, struct other_flags *o, const char *s)
{
	for (;; s += 2) {
		str_skip_spaces(&s);
		if (!s[0] || !s[1])
			return;
		switch (TWO(s[0], s[1])) {
		case TWO('g', 'd'):
			v->flags |= VMA_GROWSDOWN;
			break;
		case TWO('n', 'r'):
			v->flags |= VMA_NORESERVE;
			break;
		case TWO('d', 'p'):
			v->flags |= VMA_DROPPABLE;
			break;
		case TWO('l', 'o'):
			v->flags |= VMA_LOCKED;
			break;
		case TWO('l', 'f'):
			v->flags |= VMA_LOCK_ON_FAULT;
			break;
		case TWO('s', 'l'):
			v->flags |= VMA_SEALED;
			break;
		case TWO('d', 'c'):
			v->flags |= VMA_DONTFORK;
			break;
		case TWO('w', 'f'):
			v->flags |= VMA_WIPEONFORK;
			break;
		case TWO('h', 'g'):
			v->flags |= VMA_HUGEPAGE;
			break;
		case TWO('n', 'h'):
			v->flags |= VMA_NOHUGEPAGE;
			break;
		case TWO('m', 'g'):
			v->flags |= VMA_MERGEABLE;
			break;
		case TWO('d', 'd'):
			v->flags |= VMA_DONTDUMP;
			break;
		case TWO('s', 'r'):
			v->flags |= VMA_SEQUENTIAL;
			break;
		case TWO('r', 'r'):
			v->flags |= VMA_RANDOM;
			break;
		case TWO('m', 'w'):
			o->may_write = 1;
			break;
		case TWO('p', 'f'):
		case TWO('i', 'o'):
			o->pfn = 1;
			break;
		case TWO('h', 't'):
			o->hugetlb = 1;
			break;
		case TWO('u', 'm'):
			o->missing = 1;
			break;
		case TWO('u', 'w'):
			o->tracked = 1;
			break;
		case TWO('u', 'i'):
			o->uffd = 1;
			break;
		case TWO('s', 's'):
			o->shstk = 1;
			break;
		}
	}
}

static const char *keep_string(struct blob *b, const char *s)
{
	uint64_t n = str_len(s) + 1;
	char *p = arena_alloc(b, n);

	return p ? memcpy(p, s, n) : NULL;
}

static struct dump_file *file_of(struct dump *d, const struct map_line *m)
{
	struct dump_file *f;

	for (f = d->files; f; f = f->next)
		if (f->ino == m->ino && f->dev_major == m->dev_major &&
		    f->dev_minor == m->dev_minor && str_eq(f->path, m->name))
			return f;
	f = arena_alloc(d->b, sizeof *f);
	if (!f)
		return NULL;
	f->path = keep_string(d->b, m->name);
	if (!f->path)
		return NULL;
	f->ino = m->ino;
	f->dev_major = m->dev_major;
	f->dev_minor = m->dev_minor;
	f->index = VMA_NO_FILE;
	if (str_eq(f->path, d->exe))
		f->flags |= FILE_EXE;
	if (d->last_file)
		d->last_file->next = f;
	else
		d->files = f;
	d->last_file = f;
	return f;
}

/* A mapping without a file that can be named: anonymous, or refused. */
static long classify_nameless(struct dump *d, struct dump_vma *v, const struct map_line *m)
{
	const char *n = m->name;
	int deleted = str_ends(n, " (deleted)");

	if (!*n || str_starts(n, "[heap]") || str_starts(n, "[stack") || str_starts(n, "[anon:"))
		v->kind = VMA_ANON;
	else if (str_eq(n, "/dev/zero") && !m->shared)
		v->kind = VMA_ANON;
	else if (str_starts(n, "[anon_shmem") || (deleted && str_starts(n, "/dev/zero")))
		v->kind = VMA_ANON_SHARED;
	else if (str_starts(n, "/SYSV") && deleted)
		return refuse(d->b, REFUSE_SYSVSHM, v->start);
	else if (str_starts(n, "/[aio]"))
		return refuse(d->b, REFUSE_AIO);
	else if (str_starts(n, "/secretmem"))
		return refuse(d->b, REFUSE_MAP_SECRET, v->start);
	else if (str_starts(n, "/memfd:") && m->shared)
		v->kind = VMA_ANON_SHARED;
	else if (str_starts(n, "/dev/") && !str_starts(n, "/dev/shm/"))
		return refuse(d->b, REFUSE_DEVICE_MAP, v->start, n);
	else if (*n != '/')
		return refuse(d->b, REFUSE_MAP_ANON_INODE, v->start, n);
	else if (deleted && m->shared)
		return refuse(d->b, REFUSE_MAP_DELETED, v->start, n);
	else if (deleted) { /* nobody can open it again, so all of it goes */
		v->kind = VMA_ANON;
		v->copy = 1;
	}
	return 0;
}

/* Pieces of one shared object that lie in memory as in the object are one mapping. */
static long check_shared(struct dump *d, struct dump_vma *v)
{
	const struct dump_vma *p = d->last_vma;

	if (p && p->kind == VMA_ANON_SHARED && p->ino == v->ino && p->end == v->start &&
	    p->off + (p->end - p->start) == v->off) {
		v->flags |= VMA_JOINED;
		return 0;
	}
	for (p = d->vmas; p; p = p->next)
		if (p->kind == VMA_ANON_SHARED && p->ino == v->ino && !p->object)
			return refuse(d->b, REFUSE_MAP_TWICE, v->start);
	return 0;
}

static long finish_vma(struct dump *d, const struct dump_vma *seen, const struct other_flags *o)
{
	struct blob *b = d->b;
	struct dump_vma *v;
	long r;

	if (o->hugetlb)
		return refuse(b, REFUSE_HUGETLB, seen->start);
	if (o->uffd || (o->tracked && !d->opt->live))
		return refuse(b, REFUSE_UFFD_MAP, seen->start);
	if (o->missing)
		d->missing = seen->start;
	if (o->pfn)
		return refuse(b, REFUSE_PFN_MAP, seen->start);
	if (o->shstk)
		return refuse(b, REFUSE_SHSTK);
	if (++d->nvmas > IMAGE_VMAS_MAX)
		return refuse(b, REFUSE_LIMIT, (unsigned long)IMAGE_VMAS_MAX, "mappings");
	v = arena_alloc(b, sizeof *v);
	if (!v)
		return -ENOMEM;
	*v = *seen;
	if (v->kind == VMA_ANON_SHARED && !v->object && (r = check_shared(d, v)) < 0)
		return r;
	if (v->flags & VMA_SEALED)
		d->abilities |= NEED_SEAL;
	if (v->file && v->kind == VMA_FILE_SHARED && o->may_write)
		v->file->flags |= FILE_WRITE;
	if (d->last_vma)
		d->last_vma->next = v;
	else
		d->vmas = v;
	d->last_vma = v;
	return 0;
}

/* The first line of an entry. 0: an entry to keep, 1: not part of the image, or an error. */
static long begin_vma(struct dump *d, struct dump_vma *v, struct map_line *m)
{
	struct blob *b = d->b;
	uint64_t lo = blob_low(b), hi = b->arena.base + b->arena.size;
	uint32_t kind = special_kind(m->name);
	const struct tree_map *shared;
	long r;

	/* The kernel may have merged the blob's anonymous memory with a neighbour's. */
	if (m->start >= lo && m->start < hi)
		m->start = MIN(hi, m->end);
	else if (m->start < lo && m->end > lo)
		m->end = lo;
	if (m->start >= m->end || m->start >= IMAGE_ADDR_MAX || str_eq(m->name, "[uprobes]"))
		return 1;
	if (kind && b->env.nspecial < BLOB_SPECIALS) {
		uint32_t i = b->env.nspecial++;

		b->env.special[i].start = m->start;
		b->env.special[i].len = m->end - m->start;
		b->env.special[i].kind = kind;
		return 1;
	}
	*v = (struct dump_vma){
		.start = m->start,
		.end = m->end,
		.off = m->off,
		.ino = m->ino,
		.prot = m->prot,
		.shared = m->shared,
		.name = "",
	};
	shared = tree_map_at(d, m->start);
	if (shared) {
		v->kind = VMA_ANON_SHARED;
		v->object = shared->object + 1;
		v->no_pages = !shared->pages;
		return 0;
	}
	r = classify_nameless(d, v, m);
	if (r < 0)
		return r;
	if (v->kind) {
		if (str_starts(m->name, "[anon:"))
			v->name = keep_string(b, m->name);
		return v->name ? 0 : -ENOMEM;
	}
	v->kind = m->shared ? VMA_FILE_SHARED : VMA_FILE;
	v->file = file_of(d, m);
	if (!v->file)
		return -ENOMEM;
	if (m->prot & PROT_EXEC)
		v->file->is_lib = 1;
	if (m->off == 0 && !v->file->head)
		v->file->head = m->start;
	return 0;
}

/*
 * Finds the GNU build-id in the first page of an ELF file; its length, 0 if there
 * is none. The linker puts the note there, and the restore looks there as well.
 */
uint32_t elf_build_id(const uint8_t *page, uint32_t n, uint8_t id[FILE_ID_MAX])
{
	Elf64_Ehdr eh;

	memcpy(&eh, page, sizeof eh);
	if (n < sizeof eh || memcmp(eh.e_ident, "\177ELF\2\1", 6) != 0 ||
	    eh.e_phentsize != sizeof(Elf64_Phdr))
		return 0;
	for (uint32_t i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;
		uint64_t at = eh.e_phoff + i * sizeof ph, end;

		if (at > n || n - at < sizeof ph)
			return 0;
		memcpy(&ph, page + at, sizeof ph);
		if (ph.p_type != PT_NOTE || ph.p_offset > n || ph.p_filesz > n - ph.p_offset)
			continue;
		end = ph.p_offset + ph.p_filesz;
		for (at = ph.p_offset; at + 12 <= end;) {
			uint32_t namesz = get32(page + at), descsz = get32(page + at + 4);
			uint64_t desc = at + 12 + ROUND_UP(namesz, 4);

			if (desc > end || descsz > end - desc)
				break;
			if (get32(page + at + 8) == NT_GNU_BUILD_ID && namesz == 4 &&
			    memcmp(page + at + 12, "GNU", 4) == 0 && descsz >= 8) {
				descsz = MIN(descsz, FILE_ID_MAX);
				memcpy(id, page + desc, descsz);
				return descsz;
			}
			at = desc + ROUND_UP(descsz, 4);
		}
	}
	return 0;
}

/* 0, or 1 if the file cannot be identified by its path. page: IMAGE_PAGE bytes. */
static long identify(struct dump *d, struct dump_file *f, uint8_t *page)
{
	struct iovec to = {page, IMAGE_PAGE}, from = {(void *)f->head, IMAGE_PAGE};
	struct stat st;
	long n;

	/* Not a plain read: the page may be behind the end of a file cut short. */
	if (f->head && !(f->flags & FILE_WRITE)) {
		n = sys_process_vm_readv(d->mem, &to, &from);
		f->id_len = n > 0 ? elf_build_id(page, (uint32_t)n, f->id) : 0;
		if (f->id_len) {
			f->id_kind = FILE_BUILD_ID;
			return 0;
		}
	}
	if (sys_stat(f->path, &st) < 0 || (st.st_mode & 0170000) != 0100000)
		return 1;
	f->id_kind = f->flags & FILE_WRITE ? FILE_ANY : FILE_SIZE_MTIME;
	f->size = st.st_size;
	f->mtime_s = st.st_mtime;
	f->mtime_ns = st.st_mtime_nsec;
	return 0;
}

static uint32_t file_class(const struct dump_file *f)
{
	return f->flags & FILE_EXE ? DUMP_EXEC : f->is_lib ? DUMP_LIBS : DUMP_OTHER;
}

/* A program that goes along is named nevertheless: where it is has its name, as it had here. */
static void hint_program(struct dump *d, struct dump_file *f, uint8_t *page)
{
	if (!(f->flags & FILE_EXE) || f->index != VMA_NO_FILE || identify(d, f, page))
		return;
	f->flags |= FILE_HINT;
	f->index = d->nfiles++;
}

/* Likewise one that came without its file: what was mapped of that is memory like other. */
static long hint_copied(struct dump *d, uint8_t *page)
{
	struct map_line m = {.name = (char *)d->exe};
	struct dump_file *f = d->files;

	while (f && !(f->flags & FILE_EXE))
		f = f->next;
	if (f || !m.name || m.name[0] != '/')
		return 0;
	f = file_of(d, &m);
	if (!f)
		return -ENOMEM;
	hint_program(d, f, page);
	return 0;
}

/* Which mappings go by reference, which are copied; numbers the files referred to. */
static long settle_files(struct dump *d)
{
	struct blob *b = d->b;
	uint8_t *page = arena_alloc(b, IMAGE_PAGE);

	if (!page)
		return -ENOMEM;
	for (struct dump_vma *v = d->vmas; v; v = v->next) {
		struct dump_file *f = v->file;
		int must_share = v->kind == VMA_FILE_SHARED && (f->flags & FILE_WRITE);

		if (!f)
			continue;
		if (!must_share && (d->opt->flags & file_class(f))) {
			v->kind = VMA_ANON;
			v->copy = 1;
			hint_program(d, f, page);
			continue;
		}
		if (f->index == VMA_NO_FILE && !f->id_kind && identify(d, f, page)) {
			long r = v->kind != VMA_FILE_SHARED
					 ? 0
					 : refuse(b, REFUSE_MAP_DELETED, v->start, f->path);

			r = dump_look_on(d, r);
			if (r < 0)
				return r;
			v->kind = VMA_ANON;
			v->copy = 1;
			continue;
		}
		if (f->index == VMA_NO_FILE)
			f->index = d->nfiles++;
	}
	return hint_copied(d, page);
}

/* The entry that is being read. */
struct entry {
	struct dump_vma v;
	struct other_flags o;
	int open; /* it is one to keep */
};

static long end_entry(struct dump *d, const struct entry *n)
{
	return n->open ? dump_look_on(d, finish_vma(d, &n->v, &n->o)) : 0;
}

static long begin_entry(struct dump *d, struct entry *n, struct map_line *m)
{
	long r = end_entry(d, n);

	if (r < 0)
		return r;
	r = begin_vma(d, &n->v, m);
	n->open = r == 0;
	n->o = (struct other_flags){0};
	return dump_look_on(d, r);
}

static long more_of_entry(struct dump *d, struct entry *n, const char *line)
{
	if (n->open && str_starts(line, "VmFlags:")) {
		vm_flags(&n->v, &n->o, line + 8);
	} else if (n->open && str_starts(line, "ProtectionKey:")) {
		const char *s = line + 14;

		str_skip_spaces(&s);
		if (str_dec(&s))
			return dump_look_on(d, refuse(d->b, REFUSE_PKEY, n->v.start));
	}
	return 0;
}

static long read_entries(struct dump *d, struct lift *lift)
{
	struct entry n = {.open = 0};
	struct map_line m;
	struct text t;
	char *line, path[32];
	long r;

	str_format(path, sizeof path, "/proc/%d/smaps", d->mem);
	r = text_open(d->b, &t, path);
	t.most = lift ? ENTRY_PART : 0;
	while (r >= 0 && (line = text_line(&t))) {
		if (!map_line_parse(line, &m)) {
			r = more_of_entry(d, &n, line);
			continue;
		}
		if (t.most && m.start >= lift->gate) {
			lift_away(lift);
			t.most = 0;
		}
		r = begin_entry(d, &n, &m);
	}
	text_close(&t);
	return r < 0 ? r : end_entry(d, &n);
}

long dump_vmas(struct dump *d)
{
	struct blob_env *e = &d->b->env;
	struct lift *lift = lift_plan(d);
	long r;

	e->nspecial = 0;
	r = read_entries(d, lift);
	lift_back(lift);
	if (r < 0)
		return r;
	if (!e->vdso_sum && d->mem == d->pid)
		for (uint32_t i = 0; i < e->nspecial; i++)
			if (e->special[i].kind == SPECIAL_VDSO)
				e->vdso_sum = vdso_sum(e->special[i].start);
	return settle_files(d);
}
