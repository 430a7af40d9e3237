/*
 * Log of a daemon: to stderr (each line with the "<N>" level prefix that
 * journald reads, when stderr is a journal stream), to a syslog facility, or to
 * both. Daemons log once, where the decision is taken; library code never does.
 */
#pragma once

#include <stdbool.h>
#include <syslog.h>

/* ident is kept by reference. facility: LOG_DAEMON and so on, or -1 for no syslog. */
void log_open(const char *ident, int facility, bool to_stderr);
/* Messages of a level above max (LOG_ERR ... LOG_DEBUG) are dropped; LOG_INFO at start. */
void log_level(int max);
/* "daemon", "local0" ...: the facility, or -EINVAL. */
int log_facility(const char *name);
void log_msg(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * A warning that a stranger can cause as often as he likes: ten of these are written in ten
 * seconds, and then how many were left out.
 */
void log_stranger(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define log_error(...) log_msg(LOG_ERR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_msg(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_DEBUG, __VA_ARGS__)
