/*
 * bpsh's command line: options, and where the program is. bpsh(1).
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
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
	const char *nodes = NULL, *named;
	int c;

	for (;;) {
		named = NULL;
		c = getopt_long(argc, argv, "+hvaAnNLpsdb:I:O:E:tl:1", longs, NULL);
		switch (c) {
		case 'h':
			usage(stdout);
		case 'v':
			puts("bpsh " BPROC_VERSION);
			exit(0);
		case 'a':
			named = "allup";
			break;
		case 'A':
			named = "allnotdown";
			break;
		case '1':
			named = "-1";
			break;
		case 'n':
			o->no_stdin = true;
			break;
		case 'N':
			o->no_io = true;
			break;
		case 'L':
			o->lines = true;
			break;
		case 'p':
			o->prefix = o->lines = true;
			break;
		case 's':
			o->sequential = true;
			break;
		case 'd':
			o->divider = o->sequential = true;
			break;
		case 'b':
			parse_buffer(o, optarg);
			break;
		case 'I':
			o->file[0] = optarg;
			break;
		case 'O':
			o->file[1] = optarg;
			break;
		case 'E':
			o->file[2] = optarg;
			break;
		case 't':
			o->time = true;
			break;
		case 'l':
			break; /* rsh's remote user: the user is the same everywhere */
		case -1:
			if (nodes) {
				o->argv = argv + optind;
				return nodes;
			}
			if (optind >= argc)
				usage(stderr);
			named = argv[optind++];
			break;
		default:
			usage(stderr);
		}
		if (named && nodes)
			die(255, "nodes are named twice");
		if (named)
			nodes = named;
	}
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

	if (strchr(name, '/')) {
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
