/*
 * bpmaster: the judge of a cluster. Options, start and end; bpmaster(8). One
 * process, one thread, one libevent loop, on the front end.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "libbproc/daemon.h"
#include "libbproc/fault.h"
#include "libbproc/local.h"
#include "libbproc/log.h"
#include "libbproc/slice.h"
#include "libbproc/sysio.h"
#include "master.h"

#define STATE_DIR "/var/lib/bproc"

struct options {
	const char *config;
	int verbose;
	const char *cpu; /* NULL: the last one */
};

static void usage(FILE *f)
{
	fprintf(f, "Usage: bpmaster [-dhVv] [-c FILE] [--run-dir DIR] [--cpu N|any]\n"
		   "  -c, --config FILE  configuration (default " CONFIG_FILE ")\n"
		   "      --run-dir DIR  lock, and where the front end's slave listens (default "
		   "/run/bproc)\n"
		   "      --cpu N|any    the one processor it runs on (default: the last)\n"
		   "  -d, --foreground   stay in the foreground: it always does\n"
		   "  -v, --verbose      log more\n"
		   "  -h, --help         this text\n"
		   "  -V, --version      version\n");
}

/* 0: go on; else exit with status - 1. */
static int parse_options(int argc, char **argv, struct options *ret_opt)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'}, {"run-dir", required_argument, NULL, 'R'},
		{"cpu", required_argument, NULL, 'C'},	  {"foreground", no_argument, NULL, 'd'},
		{"verbose", no_argument, NULL, 'v'},	  {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},	  {NULL, 0, NULL, 0},
	};
	int c;

	*ret_opt = (struct options){.config = CONFIG_FILE};
	while ((c = getopt_long(argc, argv, "c:dhvV", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			ret_opt->config = optarg;
			break;
		case 'R':
			setenv("BPROC_RUN_DIR", optarg, 1);
			break;
		case 'C':
			ret_opt->cpu = optarg;
			break;
		case 'd':
			break;
		case 'v':
			ret_opt->verbose++;
			break;
		case 'h':
			usage(stdout);
			return 1;
		case 'V':
			printf("bpmaster %s, protocol %u\n", BPROC_VERSION_TEXT, BPROC_PROTOCOL);
			return 1;
		default:
			usage(stderr);
			return 1 + 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 1 + 2;
	}
	return 0;
}

static const char *state_dir(const struct config *c)
{
	if (c->state_dir[0])
		return c->state_dir;
	/* A cluster for trying, with a run directory of its own, keeps all of it there. */
	return strcmp(run_dir(), BPROC_RUN_DIR) == 0 ? STATE_DIR : run_dir();
}

static void read_boot_id(char *buf, size_t size)
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	buf[0] = '\0';
	if (!f)
		return;
	if (!fgets(buf, (int)size, f))
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	fclose(f);
}

/* Two descriptors for each link, at the most that is allowed. */
static void raise_nofile(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

static struct event_base *new_base(void)
{
	struct event_config *c = event_config_new();
	struct event_base *base;

	if (!c)
		return NULL;
	/* One epoll_ctl less for each message that is sent. */
	event_config_set_flag(c, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
	event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK);
	base = event_base_new_with_config(c);
	event_config_free(c);
	return base;
}

static int start(struct master *m, struct bproc_err *err)
{
	struct cluster_key key;
	int r;

	r = key_load(m->conf.keyfile, &key, err);
	if (r < 0)
		return r;
	m->tls = link_ctx_new(&key, err);
	key_wipe(&key);
	if (!m->tls)
		return -EIO;
	m->state_dir = state_dir(&m->conf);
	r = epoch_next(m->state_dir, &m->epoch, err);
	if (r < 0)
		return r;
	m->moves.epoch = m->epoch;
	m->start_ms = now_ms();
	read_boot_id(m->boot_id, sizeof(m->boot_id));
	m->base = new_base();
	if (!m->base || node_table_init(&m->nodes, &m->conf) < 0)
		return bproc_err_set(err, ENOMEM, "no memory");
	nodefile_read(m);
	proc_table_init(&m->procs, m->nodes.count);
	if (table_start(m) < 0 || nodes_start(m) < 0)
		return bproc_err_set(err, ENOMEM, "no memory");
	return listen_start(m, err);
}

static void end(struct master *m)
{
	listen_stop(m);
	nodes_end(m);
	if (m->tell)
		event_free(m->tell);
	move_table_free(&m->moves);
	proc_table_free(&m->procs);
	node_table_free(&m->nodes);
	if (m->base)
		event_base_free(m->base);
	link_ctx_free(m->tls);
	config_free(&m->conf);
}

static int serve(struct master *m, struct bproc_err *err)
{
	struct daemon_signals sigs;

	if (daemon_signals(m->base, &sigs) < 0)
		return bproc_err_set(err, ENOMEM, "no memory");
	log_info("bpmaster %s: port %u, %u nodes, epoch %u", BPROC_VERSION_TEXT, m->conf.port,
		 m->conf.count, m->epoch);
	if (m->conf.event_source == CONFIG_EVENTS_POLL)
		log_notice("eventsource poll: what is born on a node and lives for less than 25 ms is "
			   "not seen here, nor how a process ended whose parent there waited at once");
	daemon_notify("READY=1");
	event_base_dispatch(m->base);
	log_info("bpmaster ends");
	daemon_signals_free(&sigs);
	return 0;
}

int main(int argc, char **argv)
{
	struct bproc_err err = {.text = ""};
	cleanup_fd int lock = -1;
	struct master m = {.npeers = 0};
	struct options opt;
	int r = parse_options(argc, argv, &opt);

	if (r > 0)
		return r - 1;
	log_open("bpmaster", -1, true);
	log_level(opt.verbose ? LOG_DEBUG : LOG_INFO);
	r = fault_init(&err);
	if (r == 0)
		r = config_load(opt.config, &m.conf, &err);
	if (r == 0 && m.conf.log_facility >= 0)
		log_open("bpmaster", m.conf.log_facility, true);
	if (r == 0)
		r = daemon_cpu(opt.cpu, &err);
	if (r == 0)
		r = daemon_run_dir(&err);
	if (r == 0) {
		lock = daemon_lock("bpmaster", &err);
		r = lock < 0 ? lock : 0;
	}
	raise_nofile();
	slice_short();
	signal(SIGHUP, SIG_IGN); /* the configuration is read at start only */
	if (r == 0)
		r = start(&m, &err);
	if (r == 0)
		r = serve(&m, &err);
	if (r < 0)
		log_error("%s", err.text);
	end(&m);
	return r < 0 ? 1 : 0;
}
