/*
 * The chaos test, on the front end of a lab: chaos [--seed N] [--seconds S]
 * [--workers N] [--overlap] [--selftest]. Starts the load, makes faults, and compares
 * the books with what there is: several times while everything is held, at the end
 * when nothing may be left. Exit status 0 only without a difference.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "chaos.h"

enum { WORKERS_MAX = 64, SETTLE_MS = 20000, ROUND_MS = 30000 };

static struct {
	uint64_t seed;
	int seconds, workers;
	bool overlap, selftest;
} opt = {.seconds = 600, .workers = 8};
static pid_t worker_pid[WORKERS_MAX], watcher;

static void usage(void)
{
	fprintf(stderr, "usage: chaos [--seed N] [--seconds S] [--workers N] [--overlap] "
			"[--selftest]\n");
	exit(2);
}

static void options(int argc, char **argv)
{
	static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
					      {"seconds", required_argument, NULL, 't'},
					      {"workers", required_argument, NULL, 'w'},
					      {"overlap", no_argument, NULL, 'o'},
					      {"selftest", no_argument, NULL, 'n'},
					      {0}};
	int c;

	opt.seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's')
			opt.seed = strtoull(optarg, NULL, 0);
		else if (c == 't')
			opt.seconds = atoi(optarg);
		else if (c == 'w')
			opt.workers = atoi(optarg);
		else if (c == 'o')
			opt.overlap = true;
		else if (c == 'n')
			opt.selftest = true;
		else
			usage();
	}
	if (opt.workers < 1 || opt.workers > WORKERS_MAX || opt.seconds < 1 || optind != argc)
		usage();
}

/* The ledger lies on the disk of the machine, which all places of the lab see. */
static void make_ledger(void)
{
	struct timespec t;
	char path[256];
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), "%s/chaos.%d", getenv("LAB_TMP") ?: "/tmp", (int)getpid());
	unlink(path);
	r = ledger_make(path);
	if (r < 0) {
		fprintf(stderr, "chaos: %s: %s\n", path, strerror(-r));
		exit(1);
	}
	setenv(LEDGER_ENV, path, 1);
	led->seed = opt.seed;
	led->nodes = atoi(getenv("BPLAB_NODES") ?: "0");
	clock_gettime(CLOCK_REALTIME, &t);
	led->wall_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 - now_ms();
	led->ping_ms = atoi(getenv("CHAOS_PING") ?: "3") * 1000;
	n = readlink("/proc/self/exe", led->program, sizeof(led->program) - 1);
	if (n < 0 || led->nodes < 2 || led->nodes > NODES_MAX) {
		fprintf(stderr, "chaos: run this in a lab of 2 to %d nodes\n", NODES_MAX);
		exit(1);
	}
}

static void quiet_stdio(void)
{
	int fd = open("/dev/null", O_RDWR);

	dup2(fd, 0);
	dup2(fd, 1);
	close(fd);
}

static void load_start(void)
{
	for (int i = 0; i < opt.workers; i++) {
		int slot = slot_new();

		led->slot[slot].flags = SLOT_SPARED;
		fflush(NULL);
		worker_pid[i] = fork();
		if (worker_pid[i] == 0) {
			quiet_stdio();
			dup2(1, 2);
			slot_begin(slot, -1);
			worker(i);
		}
	}
}

/* Whose parent has died waits for nobody's signal any more, maybe stopped. */
static void end_orphans(void)
{
	for (int n = 0; n < SLOTS; n++) {
		struct slot *s = &led->slot[n];

		if (s->state != SLOT_RUNNING || s->pid <= 0 || s->flags & SLOT_SPARED)
			continue;
		note(n, "orphan, killed", s->pid);
		atomic_fetch_or(&s->flags, SLOT_KILLED);
		kill(s->pid, SIGKILL);
	}
}

/* All end what they are at; whoever does not is a difference. */
static void load_stop(void)
{
	int64_t end = now_ms() + PATIENCE_MS + 10000;
	int left = opt.workers, st;

	led->stop = 1;
	while (left > 0 && now_ms() < end) {
		pid_t pid = waitpid(-1, &st, WNOHANG);

		if (pid <= 0) {
			report_diffs();
			nap_ms(20);
			continue;
		}
		for (int i = 0; i < opt.workers; i++) {
			if (worker_pid[i] != pid)
				continue;
			left--;
			worker_pid[i] = 0;
			if (st != 0)
				diff(-1, "worker %d ended with status %#x", i, st);
		}
	}
	for (int i = 0; i < opt.workers; i++) {
		if (worker_pid[i] == 0)
			continue;
		diff(-1, "worker %d (pid %d) has not ended", i, (int)worker_pid[i]);
		kill(worker_pid[i], SIGKILL);
	}
}

/* Everybody stands still where he is; the books have to agree. */
static void hold_and_compare(const char *when)
{
	int n;

	led->hold = 1;
	nap_ms(500);
	n = book_compare(false, SETTLE_MS, true);
	printf("books compared %s: %d differences\n", when, n);
	report_diffs();
}

/* The master's table is made anew of what every bpinit holds. */
static void rebuild_and_compare(void)
{
	fault_rebuild();
	hold_and_compare("after all daemons were restarted");
}

static void run_faults(int64_t t0)
{
	int64_t end = t0 + opt.seconds * 1000, round = t0 + ROUND_MS;
	uint64_t rng = mix(opt.seed, 0xfa017);

	nap_ms(500);
	for (uint64_t i = 0; now_ms() < end; i++) {
		fault_one(mix(rng, i), opt.overlap);
		report_diffs();
		nap_ms((int)(mix(rng, ~i) % 400));
		if (now_ms() > round) {
			hold_and_compare("under way");
			led->hold = 0;
			round = now_ms() + ROUND_MS;
		}
	}
}

static int run(void)
{
	int64_t t0 = now_ms();

	book_daemons("at the start", false);
	load_start();
	watcher = fork();
	if (watcher == 0) {
		quiet_stdio();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		watch_nodes();
	}
	run_faults(t0);
	if (!all_up(PATIENCE_MS))
		diff(-1, "not everything is up at the end");
	hold_and_compare("with everybody standing still");
	rebuild_and_compare();
	led->hold = 0;
	load_stop();
	nap_ms(1000);
	end_orphans();
	kill(watcher, SIGKILL);
	waitpid(watcher, NULL, 0);
	book_compare(true, SETTLE_MS, true);
	report_diffs();
	book_daemons("at the end", true);
	report_crashes();
	report_diffs();
	report_run(now_ms() - t0);
	return led->ndiff ? 1 : 0;
}

int main(int argc, char **argv)
{
	int r;

	if (argc == 5 && !strcmp(argv[1], "--child"))
		return child_main(argv + 2);
	if (argc == 2 && !strcmp(argv[1], "--look"))
		return look_main();
	if (argc == 4 && !strcmp(argv[1], "--signal"))
		return signal_main(atoi(argv[2]), argv[3]);
	options(argc, argv);
	make_ledger();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("chaos: seed %llu, %d s, %d workers\n", (unsigned long long)opt.seed, opt.seconds,
	       opt.workers);
	r = opt.selftest ? selftest() : run();
	unlink(getenv(LEDGER_ENV));
	return r;
}
