/*
 * Proves: whatever dies or is cut off, one thing at a time, no process is ever alive
 * twice, none is lost without its parent's hearing of it, every pending call comes back
 * with a reason, and the books are what the nodes have. Rows: what is broken. Columns:
 * what is going on at that moment. matrix_static [ROW]. Lab of 3 nodes with a short
 * pingtimeout; node 0 is the one in trouble.
 *
 * How it is known who lives where does not pass through the cluster: every process
 * counts in a file that all places share, under the host name it sees.
 */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "check.h"
#include "matrix.h"

#define PLACES 4 /* home, n0, n1, n2 */

/* -- what the processes write down */

struct slot {
	uint64_t beats[PLACES];
	int32_t result, err; /* of its move; result 1: not back yet */
};
static struct slot *slots; /* shared by all places: a file */
static char slots_path[PATH_LEN], ghosts_path[80];

static volatile sig_atomic_t go, end;

static void on_signal(int sig)
{
	*(sig == SIGUSR1 ? &go : &end) = 1;
}

static int place(void)
{
	char name[64] = "";

	gethostname(name, sizeof(name) - 1);
	return name[0] == 'n' ? atoi(name + 1) + 1 : 0;
}

static void put(int i, size_t at, uint64_t value, size_t size)
{
	int fd = open(slots_path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || pwrite(fd, &value, size, (off_t)(sizeof(struct slot) * (size_t)i + at)) < 0)
		_exit(90);
	close(fd);
}

static uint64_t beats;

static void beat(int i)
{
	put(i, offsetof(struct slot, beats) + 8 * (size_t)place(), ++beats, 8);
	nap_ms(10);
}

static _Noreturn void work(int i)
{
	const struct column *c = &columns[i];
	size_t bad = 0, size = c->to == GONE ? 4096 : BIG;
	unsigned char *v;
	int r;

	munmap(slots, sizeof(*slots) * COLUMNS); /* shared memory does not travel */
	if (c->from != HOME && bproc_move(c->from) < 0)
		_exit(91);
	v = malloc(size);
	for (size_t k = 0; k < size; k++)
		v[k] = (unsigned char)(k >> 7);
	while (!go && !end)
		beat(i);
	if (c->to != GONE && go) {
		r = bproc_move(c->to);
		put(i, offsetof(struct slot, err), (uint64_t)(r < 0 ? errno : 0), 4);
		put(i, offsetof(struct slot, result), r < 0 ? UINT32_MAX : 0, 4);
	}
	while (!end)
		beat(i);
	for (size_t k = 0; k < size; k++)
		bad += v[k] != (unsigned char)(k >> 7);
	_exit(bad ? 92 : 7);
}

/* -- the one who looks */

static pid_t pid[COLUMNS];
static int status[COLUMNS]; /* -1: its parent has not heard of an end */
static uint64_t seen[COLUMNS][PLACES];
static int last_place[COLUMNS], changes[COLUMNS];

/* Once it has been seen to go on somewhere else, it must not go on where it was. */
static void look(const char *row)
{
	for (int i = 0; i < COLUMNS; i++) {
		for (int p = 0; p < PLACES; p++) {
			if (slots[i].beats[p] <= seen[i][p])
				continue;
			seen[i][p] = slots[i].beats[p];
			if (last_place[i] == p)
				continue;
			/* From home to where it begins, and one move. */
			changes[i]++;
			CHECK(changes[i] <= 1 || columns[i].to != GONE, "%s: %s is on two nodes",
			      row, columns[i].name);
			CHECK(changes[i] <= 2, "%s: %s is to and fro", row, columns[i].name);
			last_place[i] = p;
		}
		if (status[i] == -1 && waitpid(pid[i], &status[i], WNOHANG) != pid[i])
			status[i] = -1;
	}
}

static int run(const char *row, const char *command)
{
	pid_t sh;
	int s;

	fflush(NULL);
	sh = fork();
	if (sh == 0) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	while (waitpid(sh, &s, WNOHANG) != sh) {
		look(row);
		nap_ms(5);
	}
	return s;
}

static bool settled(int i)
{
	return status[i] != -1 || columns[i].to == GONE || slots[i].result != 1;
}

/* Where each of them is alive now; more than one place is an error. */
static int alive_at(const char *row, int i)
{
	uint64_t before[PLACES];
	int at = GONE;

	memcpy(before, slots[i].beats, sizeof(before));
	for (int tries = 0; tries < 40 && at == GONE; tries++) {
		nap_ms(25);
		for (int p = 0; p < PLACES; p++) {
			if (slots[i].beats[p] == before[p])
				continue;
			CHECK(at == GONE, "%s: %s runs on two nodes", row, columns[i].name);
			at = p - 1;
		}
		if (at == GONE && status[i] != -1)
			return GONE;
	}
	return at;
}

static void start(const char *row)
{
	double t0 = now_s();
	FILE *f;

	memset(slots, 0, sizeof(*slots) * COLUMNS);
	go = end = 0;
	beats = 0;
	f = fopen(ghosts_path, "w");
	MUST(f, "%s", ghosts_path);
	for (int i = 0; i < COLUMNS; i++) {
		slots[i].result = 1;
		status[i] = -1;
		changes[i] = 0;
		memset(seen[i], 0, sizeof(seen[i]));
		fflush(NULL);
		pid[i] = fork();
		if (pid[i] == 0)
			work(i);
		fprintf(f, "%d\n", (int)pid[i]);
	}
	fclose(f);
	for (int i = 0; i < COLUMNS; i++) {
		while (slots[i].beats[columns[i].from + 1] == 0 && now_s() - t0 < PATIENCE_S)
			nap_ms(5);
		MUST(slots[i].beats[columns[i].from + 1], "%s: %s has not begun", row,
		     columns[i].name);
		last_place[i] = columns[i].from + 1;
	}
}

/* The books: what the master says of it, by way of the front end's bpslave. */
static int in_book(pid_t p)
{
	int node = bproc_pidnode(p);

	return node < 0 ? HOME : node;
}

static void check_outcome(const struct row *r, int i)
{
	int at = alive_at(r->name, i), want = r->expect[i], got, book = GONE;
	double t0 = now_s();

	look(r->name);
	if (at == GONE) {
		while (status[i] == -1 && now_s() - t0 < PATIENCE_S) {
			look(r->name);
			nap_ms(10);
		}
		CHECK(status[i] != -1, "%s: %s runs nowhere, and its parent does not know", r->name,
		      columns[i].name);
		CHECK(status[i] == SIGKILL, "%s: %s: status %#x", r->name, columns[i].name,
		      status[i]);
		got = KILLED;
	} else {
		for (book = in_book(pid[i]); book != at && now_s() - t0 < PATIENCE_S;
		     book = in_book(pid[i]))
			nap_ms(20);
		CHECK(book == at, "%s: %s is on %d, the books say %d", r->name, columns[i].name, at,
		      book);
		got = 1 << (at + 1);
	}
	CHECK(got & want, "%s: %s: ended as %#x, expected %#x (move: %d, errno %d %s)", r->name,
	      columns[i].name, (unsigned)got, (unsigned)want, slots[i].result, slots[i].err,
	      bproc_strerror(slots[i].err));
	if (columns[i].to == GONE || at == GONE)
		return;
	CHECK(slots[i].result == (at == columns[i].to ? 0 : -1),
	      "%s: %s: on %d, and its call returned %d", r->name, columns[i].name, at,
	      slots[i].result);
	CHECK(at == columns[i].to || slots[i].err != 0, "%s: %s: no errno", r->name,
	      columns[i].name);
	CHECK(!r->fenced || columns[i].to != 0 || slots[i].err == BE_SLAVEDIED, "%s: %s: errno %d",
	      r->name, columns[i].name, slots[i].err);
	printf("   %-12s %s%s\n", columns[i].name, at == columns[i].to ? "moved" : "stayed: ",
	       at == columns[i].to ? "" : bproc_strerror(slots[i].err));
}

static void one(const struct row *r)
{
	uint64_t fenced[COLUMNS];
	double t0;

	printf("%s\n", r->name);
	start(r->name);
	/* With a wait that is pending on each: look() is its parent. */
	for (int i = 0; i < COLUMNS; i++)
		if (columns[i].to != GONE)
			CHECK(kill(pid[i], SIGUSR1) == 0, "kill");
	nap_ms(30);
	CHECK(run(r->name, r->command) == 0, "%s: %s", r->name, r->command);
	for (int i = 0; i < COLUMNS; i++)
		fenced[i] = slots[i].beats[1];
	t0 = now_s();
	for (int i = 0; i < COLUMNS; i++) {
		while (!settled(i) && now_s() - t0 < PATIENCE_S) {
			look(r->name);
			nap_ms(10);
		}
		CHECK(settled(i), "%s: %s: its call has not come back", r->name, columns[i].name);
	}
	for (int i = 0; i < COLUMNS; i++)
		check_outcome(r, i);
	CHECK(run(r->name, r->mend) == 0 && run(r->name, "bplab wait -w 20 0 1 2") == 0, "%s: %s",
	      r->name, r->mend);
	for (int i = 0; r->fenced && i < COLUMNS; i++)
		CHECK(columns[i].from != 0 || slots[i].beats[1] == fenced[i],
		      "%s: %s went on there when it had been declared dead", r->name,
		      columns[i].name);
	/* What lives does as it is told, and its parent hears of it. */
	for (int i = 0; i < COLUMNS; i++) {
		if (status[i] == -1)
			CHECK(kill(pid[i], SIGUSR2) == 0, "kill");
		else
			continue;
		for (t0 = now_s(); status[i] == -1 && now_s() - t0 < PATIENCE_S; nap_ms(5))
			look(r->name);
		CHECK(status[i] == 7 << 8, "%s: %s: ended with %#x", r->name, columns[i].name,
		      status[i]);
		if (status[i] == -1)
			kill(pid[i], SIGKILL);
	}
}

int main(int argc, char **argv)
{
	int fd;

	tmp_path(slots_path, "matrix");
	snprintf(ghosts_path, sizeof(ghosts_path), "%s.ghosts", slots_path);
	setenv("MATRIX_GHOSTS", ghosts_path, 1);
	fd = open(slots_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0 && ftruncate(fd, sizeof(struct slot) * COLUMNS) == 0, "%s", slots_path);
	slots = mmap(NULL, sizeof(struct slot) * COLUMNS, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		     0);
	MUST(slots != MAP_FAILED, "mmap");
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	for (int i = 0; i < ROWS; i++)
		if (argc < 2 || strcmp(argv[1], rows[i].name) == 0)
			one(&rows[i]);
	unlink(slots_path);
	unlink(ghosts_path);
	return finish("failures");
}
