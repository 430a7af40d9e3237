/*
 * bpslave: start, options, the loop, the end. One on every machine of a cluster,
 * the front end included (there it is node -1). bpslave(8) is its manual; the
 * other parts are listed in bpslave.h. A process of the cluster belongs to
 * bpinit, not to bpslave: ending or killing bpslave ends none of them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpslave.h"
#include "bpslave_data.h"
#include "libbproc/config.h"
#include "libbproc/daemon.h"
#include "libbproc/log.h"
#include "libbproc/slice.h"

struct slave slave = {.node = NODE_NONE, .ping_timeout_ms = PING_DEFAULT_MS};

uint64_t now_ms(void)
{
	return (uint64_t)clock_ms();
}

static const struct option long_opts[] = {
	{"front-end", no_argument, NULL, 'F'},	   {"data-port", required_argument, NULL, 'P'},
	{"run-dir", required_argument, NULL, 'R'}, {"bpinit", required_argument, NULL, 'I'},
	{"config", required_argument, NULL, 'c'},  {"key", required_argument, NULL, 'k'},
	{"cpu", required_argument, NULL, 'C'},	   {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},	   {0},
};

static void usage(FILE *f)
{
	fprintf(f,
		"usage: bpslave [-dehVv] [-k key] [-s address] [--data-port port] [--run-dir dir]\n"
		"               [--bpinit path] [--cpu n|any] master [port]\n"
		"       bpslave --front-end [-c config] [options] [master [port]]\n");
}

static int get_port(const char *text, uint16_t *ret_port)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || v == 0 || v > 65535) {
		fprintf(stderr, "bpslave: %s: not a port number\n", text);
		return -EINVAL;
	}
	*ret_port = (uint16_t)v;
	return 0;
}

/* 0, or the exit status + 1. */
static int parse_options(int argc, char **argv, int *ret_level)
{
	struct slave_opts *o = &slave.opt;
	int c;

	while ((c = getopt_long(argc, argv, "+c:dehk:s:vV", long_opts, NULL)) != -1) {
		switch (c) {
		case 'F':
			o->front_end = true;
			break;
		case 'P':
			if (get_port(optarg, &o->data_port) < 0)
				return 3;
			break;
		case 'R':
			setenv("BPROC_RUN_DIR", optarg, 1);
			break;
		case 'C':
			o->cpu = optarg;
			break;
		case 'I':
			o->bpinit = optarg;
			break;
		case 'c':
			o->config = optarg;
			break;
		case 'k':
			o->key_file = optarg;
			break;
		case 's':
			if (inet_pton(AF_INET, optarg, &o->local_addr) != 1) {
				fprintf(stderr, "bpslave: %s: not an IPv4 address\n", optarg);
				return 3;
			}
			break;
		case 'd':
		case 'e':
			o->to_stderr = true;
			break;
		case 'v':
			*ret_level = LOG_DEBUG;
			break;
		case 'V':
			puts("bpslave " BPROC_VERSION);
			return 1;
		case 'h':
			usage(stdout);
			return 1;
		default:
			usage(stderr);
			return 3;
		}
	}
	if (argc - optind > 2 || (argc == optind && !o->front_end)) {
		usage(stderr);
		return 3;
	}
	if (optind < argc)
		o->master = argv[optind];
	return optind + 1 < argc && get_port(argv[optind + 1], &o->port) < 0 ? 3 : 0;
}

/* The front end's slave reads what it needs from the master's own file. */
static int read_config(struct bproc_err *err)
{
	static char key_file[CONFIG_PATH_MAX];
	struct slave_opts *o = &slave.opt;
	struct config c = {0};
	int e;

	if (!o->config && access(CONFIG_FILE, F_OK) < 0)
		return 0;
	e = config_load(o->config ? o->config : CONFIG_FILE, &c, err);
	if (e < 0)
		return e;
	if (!o->port)
		o->port = c.port;
	if (!o->data_port)
		o->data_port = c.data_port;
	if (!o->key_file && c.keyfile[0]) {
		memcpy(key_file, c.keyfile, sizeof(key_file));
		o->key_file = key_file;
	}
	config_free(&c);
	return 0;
}

static int settle_options(struct bproc_err *err)
{
	struct slave_opts *o = &slave.opt;
	int e = o->front_end ? read_config(err) : 0;

	if (e < 0)
		return e;
	if (!o->master)
		o->master = "127.0.0.1";
	if (!o->port)
		o->port = CONFIG_PORT;
	if (!o->data_port)
		o->data_port = CONFIG_DATA_PORT;
	if (o->front_end)
		slave.node = HOME_NODE;
	e = key_load(o->key_file ? o->key_file : KEY_FILE_DEFAULT, &slave.key, err);
	if (e < 0)
		return e;
	slave.ctx = link_ctx_new(&slave.key, err);
	return slave.ctx ? 0 : -EIO;
}

static void on_child(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	(void)arg;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* A thousand moved processes have three sockets each here. */
static void raise_limits(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
}

static int start_parts(struct bproc_err *err)
{
	int e = data_start(err);

	if (e == 0)
		e = local_start(err);
	if (e == 0)
		e = init_start(err);
	if (e == 0) {
		peer_start();
		e = master_start(err);
	}
	return e;
}

static void stop_parts(void)
{
	master_stop();
	local_stop();
	peer_stop();
	data_stop();
	worker_stop_all();
	init_stop();
}

static int run(struct bproc_err *err)
{
	struct daemon_signals signals = {0};
	struct event_config *cfg;
	struct event *child;
	cleanup_fd int lock = -1;
	int e = daemon_run_dir(err);

	if (e < 0)
		return e;
	lock = daemon_lock("bpslave", err);
	if (lock < 0)
		return lock;
	cfg = event_config_new();
	/* One kernel call a wake-up: no clock is read for timers that are not there. */
	event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME);
	slave.base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (!slave.base || daemon_signals(slave.base, &signals) < 0)
		return bproc_err_set(err, ENOMEM, "event loop: no memory");
	child = event_new(slave.base, SIGCHLD, LOOP_SIGNAL | EV_PERSIST, on_child, NULL);
	event_add(child, NULL);
	e = start_parts(err);
	if (e == 0) {
		event_base_dispatch(slave.base);
		daemon_notify("STOPPING=1");
		log_notice("ended; the processes here go on without it");
	}
	stop_parts();
	free_event(&child);
	daemon_signals_free(&signals);
	event_base_free(slave.base);
	return e;
}

int main(int argc, char **argv)
{
	struct bproc_err err = {0};
	int level = LOG_INFO, e = parse_options(argc, argv, &level);

	if (e != 0)
		return e - 1;
	log_open("bpslave", slave.opt.to_stderr ? -1 : LOG_DAEMON, true);
	log_level(level);
	raise_limits();
	slice_short();
	e = programs_check(&err);
	if (e == 0)
		e = settle_options(&err);
	if (e == 0)
		e = daemon_cpu(slave.opt.cpu, &err); /* bpinit inherits it */
	if (e == 0)
		e = run(&err);
	if (e < 0)
		log_error("%s", err.text);
	link_ctx_free(slave.ctx);
	key_wipe(&slave.key);
	free(slave.table);
	return e < 0 ? 1 : 0;
}
