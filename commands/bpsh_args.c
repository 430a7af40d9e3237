/*
 * bpsh's command line: options, and where the program is. bpsh(1).
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpsh.h"

_Noreturn void usage(FILE *to)
{
	fputs("usage: bpsh [options] NODES COMMAND [ARGUMENT...]\n"
	      "       bpsh [options] -a|-A COMMAND [ARGUMENT...]\n"
	      "  -a, --allup       on all nodes that are up\n"
	      "  -A, --allnotdown  on all nodes that are not down\n"
	      "  -1                here, on the front end\n"
	      "  -n                stdin is /dev/null\n"
	      "  -N                stdin, stdout and stderr are /dev/null\n"
	      "  -L                keep lines of output whole\n"
	      "  -p                put the node's number before each line\n"
	      "  -s                show one node's output after the other's\n"
	      "  -d                the same, with a line between nodes\n"
	      "  -b BYTES          size of buffers, and of the longest line of -L\n"
	      "  -I, --stdin FILE  -O, --stdout FILE  -E, --stderr FILE\n"
	      "                    a file on the node\n"
	      "  -t, --time        print the time it took, in seconds\n"
	      "  -h, --help        -v, --version\n",
	      to);
	exit(to == stdout ? 0 : 255);
}

_Noreturn void die(int status, const char *what)
{
	fprintf(stderr, "bpsh: %s\n", what);
	exit(status);
}

static void parse_buffer(struct options *o, const char *s)
{
	char *end;
	long v = strtol(s, &end, 0);

	if (*end || end == s || v < 1 || v > 1 << 30)
		die(255, "-b wants a number of bytes");
	o->buffer = (size_t)v;
}

static const struct {
	char option;
	size_t flag;
} flags[] = {
	{'n', offsetof(struct options, no_stdin)},   {'N', offsetof(struct options, no_io)},
	{'L', offsetof(struct options, lines)},	     {'p', offsetof(struct options, prefix)},
	{'s', offsetof(struct options, sequential)}, {'d', offsetof(struct options, divider)},
	{'t', offsetof(struct options, time)},
};

/* Options that stand for nodes. */
static const struct {
	char option;
	const char *nodes;
} named[] = {{'a', "allup"}, {'A', "allnotdown"}, {'1', "-1"}};

/* One option; the nodes that it names, or NULL. */
static const char *take_option(struct options *o, int c)
{
	static const char files[] = "IOE";
	const char *file = strchr(files, c);

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (flags[i].option == c)
			*(bool *)((char *)o + flags[i].flag) = true;
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		if (named[i].option == c)
			return named[i].nodes;
	if (file)
		o->file[file - files] = optarg;
	if (c == 'b')
		parse_buffer(o, optarg);
	if (c == 'h')
		usage(stdout);
	if (c == 'v') {
		puts("bpsh " BPROC_VERSION);
		exit(0);
	}
	if (c == '?')
		usage(stderr);
	return NULL; /* -l too: rsh's remote user; the user is the same everywhere */
}

const char *parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'v'},
					      {"allup", no_argument, NULL, 'a'},
					      {"allnotdown", no_argument, NULL, 'A'},
					      {"stdin", required_argument, NULL, 'I'},
					      {"stdout", required_argument, NULL, 'O'},
					      {"stderr", required_argument, NULL, 'E'},
					      {"time", no_argument, NULL, 't'},
					      {0}};
	const char *nodes = NULL, *more;
	int c;

	for (;;) {
		c = getopt_long(argc, argv, "+hvaAnNLpsdb:I:O:E:tl:1", longs, NULL);
		if (c == -1 && nodes)
			break;
		if (c == -1 && optind >= argc)
			usage(stderr);
		more = c == -1 ? argv[optind++] : take_option(o, c);
		if (more && nodes)
			die(255, "nodes are named twice");
		if (more)
			nodes = more;
	}
	o->lines |= o->prefix;
	o->sequential |= o->divider;
	o->argv = argv + optind;
	return nodes;
}

static bool is_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || access(path, X_OK) < 0)
		return false;
	errno = EACCES;
	return S_ISREG(st.st_mode);
}

const char *find_program(const char *name)
{
	static char path[PATH_MAX];
	const char *dirs = getenv("PATH"), *end;
	int why = ENOENT;

	if (!*name || strchr(name, '/')) { /* no directory is a program, and "" in one is that */
		if (is_program(name))
			return name;
		why = errno;
		dirs = "";
	} else if (!dirs) {
		dirs = "/usr/local/bin:/usr/bin:/bin";
	}
	for (; *dirs; dirs = *end ? end + 1 : end) {
		end = strchrnul(dirs, ':');
		if (snprintf(path, sizeof(path), "%.*s%s%s", (int)(end - dirs), dirs,
			     end > dirs ? "/" : "./", name) >= (int)sizeof(path))
			continue;
		if (is_program(path))
			return path;
		if (errno == EACCES)
			why = EACCES;
	}
	fprintf(stderr, "bpsh: %s: %s\n", name, strerror(why));
	exit(why == ENOENT ? 127 : 126);
}
