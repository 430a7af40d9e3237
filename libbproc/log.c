/*
 * Log of the daemons (log.h). Runs in bpmaster, bpslave and bpdata.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define LOG_LINE_MAX 1024
#define STRANGER_LINES 10
#define STRANGER_S 10

static struct {
	const char *ident;
	int max;
	bool use_syslog, to_stderr, journal;
} logger = {.ident = "bproc", .max = LOG_INFO, .to_stderr = true};

/* systemd says which device and inode its journal stream is; we may be elsewhere by now. */
static bool stderr_is_journal(void)
{
	const char *s = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (!s || sscanf(s, "%llu:%llu", &dev, &ino) != 2 || fstat(STDERR_FILENO, &st) < 0)
		return false;
	return st.st_dev == dev && st.st_ino == ino;
}

void log_open(const char *ident, int facility, bool to_stderr)
{
	logger.ident = ident;
	logger.to_stderr = to_stderr;
	logger.journal = stderr_is_journal();
	logger.use_syslog = facility >= 0;
	if (logger.use_syslog)
		openlog(ident, LOG_PID | LOG_NDELAY, facility);
}

void log_level(int max)
{
	logger.max = max;
}

int log_facility(const char *name)
{
	static const struct {
		const char *name;
		int facility;
	} table[] = {
		{"auth", LOG_AUTH},	{"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},
		{"daemon", LOG_DAEMON}, {"kern", LOG_KERN},	    {"user", LOG_USER},
		{"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},	    {"local2", LOG_LOCAL2},
		{"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},	    {"local5", LOG_LOCAL5},
		{"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},	    {"syslog", LOG_SYSLOG},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].facility;
	return -EINVAL;
}

static void put(int level, const char *fmt, va_list ap)
{
	char text[LOG_LINE_MAX];
	struct timespec now;
	struct tm tm;

	if (level > logger.max)
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	/* Text of a peer may be in it: one message stays one line. */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	if (logger.use_syslog)
		syslog(level, "%s", text);
	if (!logger.to_stderr)
		return;
	if (logger.journal) {
		fprintf(stderr, "<%d>%s\n", level, text);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	fprintf(stderr, "%02d:%02d:%02d.%03ld %s[%d]: %s\n", tm.tm_hour, tm.tm_min, tm.tm_sec,
		now.tv_nsec / 1000000, logger.ident, (int)getpid(), text);
}

void log_msg(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(level, fmt, ap);
	va_end(ap);
}

void log_stranger(const char *fmt, ...)
{
	static unsigned int lines;
	static time_t since;
	struct timespec now;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec - since >= STRANGER_S) {
		if (lines > STRANGER_LINES)
			log_warn("%u warnings of this kind were left out", lines - STRANGER_LINES);
		since = now.tv_sec;
		lines = 0;
	}
	if (lines++ >= STRANGER_LINES)
		return;
	va_start(ap, fmt);
	put(LOG_WARNING, fmt, ap);
	va_end(ap);
}
