/*
 * vmadump: real programs (vmadump_victim, built plain) are dumped to a file or a
 * pipe and undumped in another process, where they look whether all is as it was.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], image[96];
static const char *victim;
static const char *const builds[] = {VICTIM, VICTIM_STATIC};

/* What a child wrote, and how it ended. */
struct outcome {
	int status; /* exit status, or 128 + signal */
	char text[65536];
};

static void child(char *const argv[], int in, int out)
{
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	/* Whoever runs the tests may have left us descriptors that cannot move. */
	close_range(3, ~0u, 0);
	execvp(argv[0], argv);
	_exit(127);
}

static void run(struct outcome *o, int in, const char *const argv[])
{
	int p[2], status;
	size_t n = 0;
	ssize_t r;
	pid_t pid;
	int null = open("/dev/null", O_RDONLY);

	ck_assert_int_eq(pipe(p), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		close(p[0]);
		child((char *const *)argv, in < 0 ? null : in, p[1]);
	}
	close(p[1]);
	close(null);
	while ((r = read(p[0], o->text + n, sizeof o->text - 1 - n)) > 0)
		n += (size_t)r;
	o->text[n] = 0;
	close(p[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	o->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define RUN(o, ...) run(o, -1, (const char *const[]){__VA_ARGS__, NULL})

static void expect(const struct outcome *o, int status, const char *text)
{
	ck_assert_msg(o->status == status && strcmp(o->text, text) == 0,
		      "status %d, expected %d; it wrote: %.1000s", o->status, status, o->text);
}

static void set_up(void)
{
	snprintf(dir, sizeof dir, "/tmp/vmadump-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(image, sizeof image, "%s/image", dir);
}

static void tear_down(void)
{
	unlink(image);
	rmdir(dir);
}

START_TEST(every_state_comes_back)
{
	static struct outcome o;

	victim = builds[_i];
	RUN(&o, victim, "state", image);
	expect(&o, 0, "");
	RUN(&o, victim, "undump", image);
	expect(&o, 0, "copy\n");
}
END_TEST

START_TEST(without_pagemap_scan)
{
	static struct outcome o;

	victim = builds[_i];
	RUN(&o, victim, "noscan", image);
	expect(&o, 0, "");
	RUN(&o, victim, "undump", image);
	expect(&o, 0, "copy\n");
}
END_TEST

START_TEST(one_build_undumps_the_other)
{
	static struct outcome o;

	RUN(&o, builds[_i], "small", image);
	expect(&o, 0, "");
	RUN(&o, builds[!_i], "undump", image);
	expect(&o, 0, "copy\n");
}
END_TEST

START_TEST(big_memory)
{
	static struct outcome o;

	RUN(&o, builds[_i], "big", image, "64");
	expect(&o, 0, "");
	RUN(&o, builds[_i], "undump", image);
	expect(&o, 0, "copy\n");
}
END_TEST

/* Through a pipe, whose buffer is smaller than the image: partial reads and writes. */
START_TEST(through_a_pipe)
{
	static struct outcome o;
	char command[512];

	snprintf(command, sizeof command, "exec 3>&-; '%s' big /dev/stdout 8 | '%s' undump -",
		 builds[_i], builds[_i]);
	RUN(&o, "bash", "-c", command);
	expect(&o, 0, "copy\n");
}
END_TEST

START_TEST(a_cut_pipe_is_an_end_not_a_crash)
{
	static struct outcome o;
	static const char *const cuts[] = {"0", "63", "119", "120", "4000", "9000", "30000"};

	RUN(&o, builds[_i], "small", image);
	expect(&o, 0, "");
	for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
		char command[512];

		snprintf(command, sizeof command, "head -c %s '%s' | '%s' undump -", cuts[i], image,
			 builds[_i]);
		RUN(&o, "bash", "-c", command);
		ck_assert_msg((o.status == 3 || o.status == 127) && strstr(o.text, "cut short"),
			      "after %s bytes: status %d, %s", cuts[i], o.status, o.text);
	}
}
END_TEST

START_TEST(no_prefix_and_no_changed_byte_is_taken)
{
	static struct outcome o;

	RUN(&o, builds[1], "small", image);
	expect(&o, 0, "");
	RUN(&o, builds[1], "prefixes", image);
	expect(&o, 0, "");
}
END_TEST

START_TEST(another_build_of_a_file_is_named)
{
	static struct outcome o;
	char copy[96], command[512];

	snprintf(copy, sizeof copy, "%s/victim", dir);
	snprintf(command, sizeof command, "cp '%s' '%s'", builds[1], copy);
	RUN(&o, "bash", "-c", command);
	RUN(&o, copy, "small", image);
	expect(&o, 0, "");
	snprintf(command, sizeof command, "cp --remove-destination '%s' '%s'", builds[0], copy);
	RUN(&o, "bash", "-c", command);
	RUN(&o, builds[1], "undump", image);
	ck_assert_int_eq(o.status, 3);
	ck_assert_ptr_nonnull(strstr(o.text, copy));
	ck_assert_ptr_nonnull(strstr(o.text, "another build-id"));
	unlink(copy);
	RUN(&o, builds[1], "undump", image);
	ck_assert_int_eq(o.status, 3);
	ck_assert_ptr_nonnull(strstr(o.text, "no such file"));
}
END_TEST

static const struct {
	const char *what, *text;
} refusals[] = {
	{"thread", "it has 2 threads; only one can be carried\n"},
	{"pipe", "is a pipe; it cannot move\n"},
	{"socket", "is a socket; it cannot move\n"},
	{"eventfd", "fd 7 is anon_inode:[eventfd]; it cannot move\n"},
	{"memfd", "fd 7 is a memfd (/memfd:mine (deleted)); it cannot move\n"},
	{"deleted", "fd 7 is a deleted file, /tmp/vmadump-gone-"},
	{"device", "fd 7 is /dev/kmsg, a device of this node; it cannot move\n"},
	{"lock", "fd 7 holds a lock on /tmp/vmadump-gone-"},
	{"terminal", "fd 7 is the terminal /dev/"},
	{"shm", "is System V shared memory; it cannot move\n"},
	{"hugetlb", "is of hugetlb pages; it cannot move\n"},
	{"twice", "shares its memory with another one; it cannot move\n"},
};

START_TEST(what_cannot_move_is_named)
{
	static struct outcome o;

	RUN(&o, builds[0], "refuse", refusals[_i].what);
	if (o.status == 77)
		return; /* this machine has no such thing */
	ck_assert_msg(o.status == 0 && strstr(o.text, refusals[_i].text), "%s: status %d, %s",
		      refusals[_i].what, o.status, o.text);
}
END_TEST

START_TEST(debuggers_read_it)
{
	static struct outcome o;

	RUN(&o, builds[_i], "small", image);
	expect(&o, 0, "");
	RUN(&o, "readelf", "-n", image);
	ck_assert_int_eq(o.status, 0);
	ck_assert_ptr_nonnull(strstr(o.text, "NT_PRSTATUS"));
	ck_assert_ptr_nonnull(strstr(o.text, "NT_X86_XSTATE"));
	ck_assert_msg(!strstr(o.text, "arning") && !strstr(o.text, "orrupt"), "%s", o.text);
	RUN(&o, "gdb", "-batch", "-nx", "-ex", "bt", builds[_i], image);
	if (o.status == 127)
		return; /* no gdb here */
	ck_assert_msg(strstr(o.text, "vmad_dump ") && strstr(o.text, "victim_dump ") &&
			      strstr(o.text, "main "),
		      "%s", o.text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmadump");
	TCase *t = tcase_create("vmadump");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, every_state_comes_back, 0, 2);
	tcase_add_loop_test(t, without_pagemap_scan, 0, 2);
	tcase_add_loop_test(t, one_build_undumps_the_other, 0, 2);
	tcase_add_loop_test(t, big_memory, 0, 2);
	tcase_add_loop_test(t, through_a_pipe, 0, 2);
	tcase_add_loop_test(t, a_cut_pipe_is_an_end_not_a_crash, 0, 2);
	tcase_add_test(t, no_prefix_and_no_changed_byte_is_taken);
	tcase_add_test(t, another_build_of_a_file_is_named);
	tcase_add_loop_test(t, what_cannot_move_is_named, 0,
			    (int)(sizeof refusals / sizeof refusals[0]));
	tcase_add_loop_test(t, debuggers_read_it, 0, 2);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
