/*
 * Proves: whatever dies or is cut off, one thing at a time, a stream of bytes through a
 * process that runs elsewhere, or moves meanwhile, is whole and in order in both directions as
 * long as that process lives, and what has come of one that dies is the beginning of it; and who
 * forks all the time on a node gets every child's status, and nothing of any of them is left
 * anywhere. Rows and places are those of matrix.h; a stream and a family for each column, of which
 * those that move are met on their way. matrix_io_static [ROW...]. Lab of 3 nodes with a short
 * pingtimeout. Some rows are in the tests, all of them are for ./dev matrix.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>

#include "check.h"
#include "matrix.h"

#define MANGLE 0x5a	 /* what comes back is no echo of the way */
#define PIECE 4096	 /* bytes ... */
#define EVERY_MS 4	 /* ... so often, to each */
#define MORE (64u << 10) /* so many bytes, or ... */
#define MORE_BORN 10	 /* ... births, after the fault: it goes on */
#define CHILD_MS 25
#define BEGUN_S 0.03	   /* the moves have begun */
#define BOTH (2 * COLUMNS) /* of a column the stream, then the family */

static volatile sig_atomic_t go, end;

static void on_signal(int sig)
{
	*(sig == SIGUSR1 ? &go : &end) = 1;
}

static unsigned char byte_at(uint64_t at)
{
	return (unsigned char)((at * 2654435761u) >> 13);
}

/* -- the processes */

static void begin(const struct column *c)
{
	if (c->from != HOME && bproc_move(c->from) < 0)
		_exit(91);
}

/* Once, when it is told to; it may fail. */
static void move_on(const struct column *c)
{
	if (!go || c->to == GONE)
		return;
	go = 0;
	bproc_move(c->to);
}

static _Noreturn void stream(const struct column *c)
{
	struct pollfd in = {.fd = 0, .events = POLLIN};
	unsigned char buf[PIECE];
	ssize_t n, w;

	begin(c);
	for (;;) {
		move_on(c);
		if (poll(&in, 1, 20) <= 0)
			continue;
		n = read(0, buf, sizeof(buf));
		if (n == 0)
			_exit(7);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			_exit(92);
		for (ssize_t i = 0; i < n; i++)
			buf[i] ^= MANGLE;
		for (ssize_t at = 0; at < n; at += w) {
			w = write(1, buf + at, (size_t)(n - at));
			if (w < 0 && errno != EINTR)
				_exit(93);
			w = w < 0 ? 0 : w;
		}
	}
}

/* Children that live for a moment; of each the status, and how many there were. */
static _Noreturn void family(const struct column *c, const char *path)
{
	uint64_t reaped = 0, born = 0;
	pid_t child[64] = {0};
	volatile char *big = c->to == GONE ? NULL : malloc(BIG);
	int s, fd;
	bool bad = false;

	begin(c);
	for (size_t i = 0; big && i < BIG; i += 4096)
		big[i] = 1;
	while (!end || born > reaped) {
		uint64_t k = reaped % 64;

		move_on(c);
		if (!end && born - reaped < 4) {
			child[born % 64] = fork();
			if (child[born % 64] == 0) {
				nap_ms(CHILD_MS);
				_exit((int)(born % 50));
			}
			born += child[born % 64] > 0;
		}
		nap_ms(5);
		if (born == reaped || waitpid(child[k], &s, WNOHANG) == 0)
			continue;
		bad = bad || !WIFEXITED(s) || WEXITSTATUS(s) != (int)(reaped % 50);
		reaped++;
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || pwrite(fd, &reaped, sizeof(reaped), 0) < 0)
			_exit(94);
		close(fd);
	}
	_exit(bad ? 95 : 7);
}

/* -- the one who looks */

static struct one {
	pid_t pid;
	int status;  /* -1: its parent has not heard of an end */
	int in, out; /* of a stream: our ends, -1: closed */
	uint64_t sent, got;
	bool wrong;
	char path[PATH_LEN + 8]; /* of a family: how many it has waited for */
} ones[BOTH];
static char base_path[PATH_LEN], ghosts_path[80];

static bool is_stream(const struct one *o)
{
	return o - ones < COLUMNS;
}

static const struct column *column_of(const struct one *o)
{
	return &columns[(o - ones) % COLUMNS];
}

static void send_some(struct one *o)
{
	unsigned char buf[PIECE];
	ssize_t n;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = byte_at(o->sent + i);
	n = write(o->in, buf, sizeof(buf));
	if (n > 0)
		o->sent += (uint64_t)n;
	else if (n < 0 && errno == EPIPE)
		o->in = (close(o->in), -1);
}

static void take_some(struct one *o)
{
	unsigned char buf[1 << 16];
	ssize_t n;

	while (o->out >= 0 && (n = read(o->out, buf, sizeof(buf))) != 0) {
		if (n < 0)
			return;
		for (ssize_t i = 0; i < n; i++)
			o->wrong |= buf[i] != (byte_at(o->got + (uint64_t)i) ^ MANGLE);
		o->got += (uint64_t)n;
	}
	if (o->out >= 0)
		o->out = (close(o->out), -1);
}

static void look(void)
{
	static double last;
	bool now = now_s() - last >= EVERY_MS / 1000.0;

	for (struct one *o = ones; o < ones + BOTH; o++) {
		if (o->pid == 0)
			continue; /* not started yet */
		if (is_stream(o) && o->in >= 0 && now)
			send_some(o);
		if (is_stream(o))
			take_some(o);
		if (o->status == -1 && waitpid(o->pid, &o->status, WNOHANG) != o->pid)
			o->status = -1;
	}
	if (now)
		last = now_s();
	nap_ms(1);
}

static uint64_t done(struct one *o)
{
	uint64_t n = 0;
	int fd;

	if (is_stream(o))
		return o->got;
	fd = open(o->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &n, sizeof(n), 0) < 0)
		n = 0;
	close(fd);
	return n;
}

static int run(const char *command)
{
	pid_t sh;
	int s;

	fflush(NULL);
	sh = fork();
	if (sh == 0) {
		signal(SIGPIPE, SIG_DFL);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	while (waitpid(sh, &s, WNOHANG) != sh)
		look();
	return s;
}

/* It goes on, or has ended: within the time. */
static bool goes_on(struct one *o, uint64_t more)
{
	uint64_t from = done(o);
	double t0 = now_s();

	while (o->status == -1 && done(o) < from + more && now_s() - t0 < PATIENCE_S)
		look();
	return o->status != -1 || done(o) >= from + more;
}

static void start_one(struct one *o)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1};

	o->status = -1;
	o->sent = o->got = 0;
	o->wrong = false;
	o->in = o->out = -1;
	snprintf(o->path, sizeof(o->path), "%s.%d", base_path, (int)(o - ones));
	close(open(o->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	if (is_stream(o))
		MUST(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0, "pipe");
	fflush(NULL);
	o->pid = fork();
	if (o->pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		if (is_stream(o)) {
			dup2(in[0], 0);
			dup2(out[1], 1);
		}
		/* Ends of the others' pipes would keep it here. */
		close_range(3, ~0u, 0);
		if (!is_stream(o))
			family(column_of(o), o->path);
		stream(column_of(o));
	}
	if (!is_stream(o))
		return;
	close(in[0]);
	close(out[1]);
	o->in = in[1];
	o->out = out[0];
	fcntl(o->in, F_SETFL, O_NONBLOCK);
	fcntl(o->out, F_SETFL, O_NONBLOCK);
}

static void start(const char *row)
{
	FILE *f = fopen(ghosts_path, "w");

	MUST(f, "%s", ghosts_path);
	go = end = 0;
	memset(ones, 0, sizeof(ones));
	for (struct one *o = ones; o < ones + BOTH; o++) {
		start_one(o);
		fprintf(f, "%d\n", (int)o->pid);
	}
	fclose(f);
	for (struct one *o = ones; o < ones + BOTH; o++)
		MUST(goes_on(o, 1) && o->status == -1, "%s: %s, %s: has not begun (%#x)", row,
		     column_of(o)->name, is_stream(o) ? "stream" : "births", o->status);
}

/* -- what must be so */

/* A bpslave that was started anew knows nothing of the streams that the last one has carried. */
static bool loses_streams(const struct row *r, const struct column *c)
{
	return strncmp(r->name, "bpslave", 7) == 0 &&
	       (strstr(r->name, "home") || c->from == 0 || c->to == 0);
}

static bool may_end(const struct row *r, const struct one *o)
{
	const struct column *c = column_of(o);

	if (o->status == SIGKILL)
		return r->expect[c - columns] & KILLED;
	/* It reads an end, or writes for nobody. */
	return is_stream(o) && loses_streams(r, c) &&
	       (o->status == SIGPIPE || o->status == 7 << 8 || o->status == 93 << 8);
}

static void check_one(const struct row *r, struct one *o)
{
	const struct column *c = column_of(o);
	const char *what = is_stream(o) ? "stream" : "births";
	double t0 = now_s();

	CHECK(goes_on(o, is_stream(o) ? MORE : MORE_BORN), "%s: %s, %s: it stands still", r->name,
	      c->name, what);
	if (o->status != -1) {
		CHECK(may_end(r, o), "%s: %s, %s: ended with %#x", r->name, c->name, what,
		      o->status);
		CHECK(!o->wrong && o->got <= o->sent, "%s: %s: other bytes have come", r->name,
		      c->name);
		return;
	}
	CHECK(r->expect[c - columns] != KILLED, "%s: %s, %s: it lives", r->name, c->name, what);
	if (o->in >= 0)
		o->in = (close(o->in), -1);
	if (!is_stream(o))
		kill(o->pid, SIGUSR2);
	while (o->status == -1 && now_s() - t0 < PATIENCE_S)
		look();
	take_some(o);
	CHECK(o->status == 7 << 8, "%s: %s, %s: ended with %#x", r->name, c->name, what, o->status);
	CHECK(!o->wrong && o->got == o->sent, "%s: %s: %s, %llu of %llu bytes", r->name, c->name,
	      o->wrong ? "other bytes" : "the same", (unsigned long long)o->got,
	      (unsigned long long)o->sent);
}

/*
 * Of what the row has started nothing runs anywhere, and home has no ghost nor zombie of it. The
 * one who looks has ghosts: of those the last number is his own.
 */
static const char nothing_is_left[] =
	"export me=$PPID; for k in $(seq 200); do left=$(for at in master 0 1 2; do"
	" bplab exec $at sh -c 'for p in $(pgrep -x matrix_io_stati); do echo $(hostname)"
	"  $(grep -e ^State -e ^PPid -e ^Tracer -e ^NSpid /proc/$p/status); done';"
	" done | awk '$NF != ENVIRON[\"me\"]');"
	" [ -z \"$left\" ] && exit 0; sleep 0.1; done; echo \"$left\" >&2; exit 1";

static void one_row(const struct row *r)
{
	printf("%s\n", r->name);
	start(r->name);
	for (struct one *o = ones; o < ones + BOTH; o++)
		if (column_of(o)->to != GONE)
			CHECK(kill(o->pid, SIGUSR1) == 0, "kill");
	for (double t0 = now_s(); now_s() - t0 < BEGUN_S;)
		look();
	CHECK(run(r->command) == 0, "%s: %s", r->name, r->command);
	for (struct one *o = ones; o < ones + BOTH; o++)
		check_one(r, o);
	CHECK(run(r->mend) == 0 && run("bplab wait -w 20 0 1 2") == 0, "%s: %s", r->name, r->mend);
	CHECK(run(nothing_is_left) == 0, "%s: something is left", r->name);
	for (struct one *o = ones; o < ones + BOTH; o++) {
		if (o->status == -1)
			kill(o->pid, SIGKILL);
		if (o->in >= 0)
			close(o->in);
		if (o->out >= 0)
			close(o->out);
		unlink(o->path);
	}
}

static bool is_wanted(const struct row *r, char **names)
{
	bool any = *names;

	for (; *names; names++)
		if (strcmp(*names, r->name) == 0)
			return true;
	return !any;
}

int main(int argc, char **argv)
{
	(void)argc;
	tmp_path(base_path, "matrix_io");
	snprintf(ghosts_path, sizeof(ghosts_path), "%s.ghosts", base_path);
	setenv("MATRIX_GHOSTS", ghosts_path, 1);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < ROWS; i++)
		if (is_wanted(&rows[i], argv + 1))
			one_row(&rows[i]);
	unlink(ghosts_path);
	return finish("failures");
}
