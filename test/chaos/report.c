/*
 * What a run says: each difference with the past of its process and what the daemons'
 * logs have on it, then the table of operations and faults.
 */
#include <time.h>

#include "chaos.h"

static const char *log_dir(void)
{
	return getenv("CHAOS_LOGS") ?: "/run/bplab/log";
}

/* As the daemons' logs have it. */
const char *clock_text(int64_t t_ms)
{
	static char text[4][24];
	static int next;
	int64_t t = t_ms + led->wall_ms;
	time_t s = (time_t)(t / 1000);
	char *buf = text[next++ % 4];
	struct tm tm;
	size_t n;

	localtime_r(&s, &tm);
	n = strftime(buf, sizeof(text[0]), "%H:%M:%S", &tm);
	snprintf(buf + n, sizeof(text[0]) - n, ".%03d", (int)(t % 1000));
	return buf;
}

static void show_past(int n)
{
	struct slot *s = &led->slot[n];
	uint32_t end = s->npast, first = end > PAST ? end - PAST : 0;

	printf("    slot %d pid %d parent slot %d state %u flags %u node %d to %d beats %llu\n", n,
	       (int)s->pid, s->parent, s->state, s->flags, (int)s->at, (int)s->to,
	       (unsigned long long)s->beat);
	for (uint32_t i = first; i < end; i++) {
		struct past *p = &s->past[i % PAST];

		printf("    %s node %2d  %s %d\n", clock_text(p->t_ms), p->node, p->what, p->arg);
	}
}

static void show_faults(int64_t t0)
{
	uint32_t n = led->nfault;

	for (uint32_t i = n > 6 ? n - 6 : 0; i < n && i < FAULTS; i++) {
		const struct fault *f = &led->fault[i];

		if (f->from >= t0)
			printf("    %s to %s fault %u: %s, node %d\n", clock_text(f->from),
			       clock_text(f->until), i, fault_name[f->kind], f->node);
	}
}

static void show_logs(int pid)
{
	char command[512];

	fflush(stdout);
	snprintf(command, sizeof(command),
		 "cd '%s' && grep -w '%d' * /dev/null | tail -n 20 | cut -c -220 | sed 's/^/    /'",
		 log_dir(), pid);
	if (system(command) != 0)
		printf("    (no logs)\n");
}

/* What stands in for it at home, or it itself, is doing. */
static void show_proc(int pid)
{
	char command[512];

	fflush(stdout);
	snprintf(command, sizeof(command),
		 "cd /proc/%d 2>/dev/null && { grep -E "
		 "'Name|State|PPid|Tracer|SigPnd|ShdPnd|SigBlk' "
		 "status | tr '\n\t' '; '; echo; cat wchan syscall 2>&1; echo; ls -l fd | "
		 "awk '{print $9 $10 $11}' | tr '\n' ' '; echo; } | sed 's/^/    /'",
		 pid);
	if (pid > 0 && system(command) != 0)
		printf("    (not at home)\n");
}

void report_diffs(void)
{
	static uint32_t shown;

	for (; shown < led->ndiff && shown < DIFFS && led->diff[shown].ready; shown++) {
		int n = led->diff[shown].slot;

		printf("DIFFERENCE %u at %s: %s\n", shown, clock_text(now_ms()),
		       led->diff[shown].text);
		if (n >= 0) {
			show_past(n);
			if (led->slot[n].parent >= 0)
				show_past(led->slot[n].parent);
			show_proc(led->slot[n].pid);
			show_logs(led->slot[n].pid);
		}
		show_faults(now_ms() - PATIENCE_MS);
		fflush(stdout);
	}
}

/* Words that only a daemon that crashed writes. */
int report_crashes(void)
{
	char command[640];
	int r;

	fflush(stdout);
	snprintf(command, sizeof(command),
		 "cd '%s' && grep -E -A 30 'Assertion .* failed|AddressSanitizer|runtime error:|"
		 "LeakSanitizer|SIGSEGV|SIGABRT|core dumped' * /dev/null | cut -c -220 | head -n "
		 "60 |"
		 " grep .",
		 log_dir());
	r = system(command);
	if (r == 0)
		diff(-1, "a daemon has crashed: see above");
	return r == 0;
}

void report_run(int64_t ms)
{
	uint64_t ops = 0;
	uint32_t kinds[FAULT_KINDS] = {0}, faults = led->nfault;

	for (int i = 0; i < OP_KINDS; i++)
		ops += led->op[i];
	for (uint32_t i = 0; i < faults && i < FAULTS; i++)
		kinds[led->fault[i].kind]++;
	printf("\nseed %llu, %d nodes, %.1f s\n", (unsigned long long)led->seed, led->nodes,
	       (double)ms / 1000);
	printf("operations: %llu\n", (unsigned long long)ops);
	for (int i = 0; i < OP_KINDS; i++)
		printf("  %-26s %8llu\n", op_name[i], (unsigned long long)led->op[i]);
	printf("calls:");
	for (int i = 0; i < CALL_KINDS; i++)
		printf(" %s %llu%s", call_name[i], (unsigned long long)led->call[i],
		       i + 1 < CALL_KINDS ? "," : "\n");
	printf("  failed for a fault: %llu; processes killed by one: %llu\n",
	       (unsigned long long)led->failed_calls, (unsigned long long)led->killed);
	printf("  bytes through moved processes: %llu; heart-beats: %llu\n",
	       (unsigned long long)led->bytes, (unsigned long long)led->beats);
	printf("  killed by SIGPIPE, their bpslave ended: %llu\n", (unsigned long long)led->cut);
	printf("faults: %u\n", faults);
	for (int i = 0; i < FAULT_KINDS; i++)
		if (kinds[i])
			printf("  %-26s %8u\n", fault_name[i], kinds[i]);
	printf("differences: %u\n", led->ndiff);
	fflush(stdout);
}
