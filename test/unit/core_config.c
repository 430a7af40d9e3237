/*
 * The configuration file and the key file (libbproc/config.c, keyfile.c): what
 * is taken, and that every error names the file, the line or the mode.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "libbproc/config.h"
#include "libbproc/keyfile.h"

static int parse(const char *text, struct config *c, struct bproc_err *err)
{
	return config_parse("conf", text, strlen(text), c, err);
}

START_TEST(good)
{
	static const char text[] = "# a cluster\n"
				   "interface eth0\n"
				   "iprange 10.0.0.1 10.0.0.3   # 0 to 2\n"
				   "ip 10.0.1.1 10.0.1.2\n"
				   "\n"
				   "iprange 100 10.0.2.1 10.0.2.1\r\n"
				   "ip 7 10.0.3.7\n"
				   "bprocport 3000\n"
				   "dataport 3001\n"
				   "pingtimeout 5\n"
				   "logfacility local3\n"
				   "imageencryption no\n"
				   "keyfile /k\n"
				   "node_up /up\n"
				   "statedir /s\n"
				   "slave timesync no\n"
				   "nodes 101"; /* no newline at the end */
	struct bproc_err err = {.text = ""};
	struct config c;

	ck_assert_msg(parse(text, &c, &err) == 0, "%s", err.text);
	ck_assert_str_eq(c.interface, "eth0");
	ck_assert_uint_eq(c.count, 7);
	ck_assert_int_eq(c.node[0].node, 0);
	ck_assert_uint_eq(c.node[0].addr, 0x0a000001);
	ck_assert_int_eq(c.node[4].node, 4);
	ck_assert_uint_eq(c.node[4].addr, 0x0a000102);
	ck_assert_int_eq(c.node[5].node, 7);
	ck_assert_int_eq(c.node[6].node, 100);
	ck_assert_uint_eq(c.node[5].addr, 0x0a000307);
	ck_assert_uint_eq(c.port, 3000);
	ck_assert_uint_eq(c.data_port, 3001);
	ck_assert_uint_eq(c.ping_timeout_ms, 5000);
	ck_assert_int_eq(c.log_facility, LOG_LOCAL3);
	ck_assert(!c.image_encryption);
	ck_assert_str_eq(c.keyfile, "/k");
	ck_assert_str_eq(c.node_up, "/up");
	ck_assert_str_eq(c.state_dir, "/s");
	config_free(&c);
}
END_TEST

START_TEST(defaults)
{
	struct bproc_err err = {.text = ""};
	struct config c;

	ck_assert_int_eq(parse("", &c, &err), 0);
	ck_assert_uint_eq(c.port, 2223);
	ck_assert_uint_eq(c.data_port, 2224);
	ck_assert_uint_eq(c.ping_timeout_ms, 30000);
	ck_assert(c.image_encryption);
	ck_assert_int_eq(c.log_facility, -1);
	ck_assert_str_eq(c.keyfile, "/etc/bproc/key");
	ck_assert_uint_eq(c.count, 0);
	config_free(&c);
}
END_TEST

static const struct {
	const char *text, *want;
} bad[] = {
	{"\n\nfrobnicate 3\n", "conf:3: unknown keyword 'frobnicate'"},
	{"bprocport\n", "conf:1: bprocport: 0 words"},
	{"bprocport 1 2\n", "conf:1: bprocport: 2 words"},
	{"bprocport 0\n", "conf:1: '0' is not a number"},
	{"bprocport 65536\n", "conf:1: '65536' is not a number"},
	{"bprocport 12x\n", "conf:1: '12x' is not a number"},
	{"bprocport -1\n", "conf:1: '-1' is not a number"},
	{"bprocport 3000\nbprocport 3000\n", "conf:2: bprocport: given a second time"},
	{"bprocport 2224\n", "bprocport and dataport are both 2224"},
	{"pingtimeout 1\n", "conf:1: '1' is not a number from 2"},
	{"pidslot 1000\n", "conf:1: '1000' is no power of two from 1024"},
	{"pidslot 131072\n", "conf:1: '131072' is no power of two from 1024"},
	{"logfacility nosuch\n", "conf:1: 'nosuch' is not a syslog facility"},
	{"imageencryption maybe\n", "conf:1: 'maybe' is neither yes nor no"},
	{"keyfile key\n", "conf:1: 'key' is not an absolute path"},
	{"interface aninterfacenamethatistoolong\n", "conf:1: 'aninterface"},
	{"ip 10.0.0.256\n", "conf:1: '10.0.0.256' is not an IPv4 address"},
	{"ip 0.0.0.0\n", "conf:1: '0.0.0.0' is not an IPv4 address"},
	{"ip 5\n", "conf:1: ip: no address"},
	{"ip 2000 10.0.0.1\n", "conf:1: '2000' is not a number"},
	{"ip -1 10.0.0.1\n", "conf:1: '-1' is not a number"},
	{"ip 10.0.0.1\nip 10.0.0.1\n", "conf:2: this address is node 0 already"},
	{"ip 4 10.0.0.1\nip 4 10.0.0.2\n", "conf:2: node 4 has an address already"},
	{"iprange 10.0.0.5 10.0.0.4\n", "conf:1: iprange: 10.0.0.5 to 10.0.0.4"},
	{"iprange 0.0.0.1 255.255.255.255\n", "conf:1: iprange:"},
	{"iprange 10.0.0.1\n", "conf:1: iprange: 1 words after it, wants at least 2"},
	{"iprange 3 10.0.0.1\n", "conf:1: iprange: wants [node] first last"},
	{"iprange 1990 10.0.0.1 10.0.0.99\n", "conf:1: node number 2000 is over 1999"},
	{"nodes 2\niprange 10.0.0.1 10.0.0.3\n", "conf:1: nodes 2: but there is a node 2"},
	{"slave timesync yes\n", "conf:1: slave timesync yes: not done"},
	{"slave foo no\n", "conf:1: slave: 'foo' is neither"},
	{"master h\n", "conf:1: master: a slave has one master"},
	{"allowinsecureports\n", "conf:1: allowinsecureports: not needed"},
};

START_TEST(errors)
{
	struct bproc_err err = {.text = ""};
	struct config c;
	int r = parse(bad[_i].text, &c, &err);

	ck_assert_int_eq(r, -EINVAL);
	ck_assert_msg(strstr(err.text, bad[_i].want) != NULL, "got: %s", err.text);
}
END_TEST

START_TEST(odd_bytes)
{
	static const char nul[] = "bprocport 3000\0 \n";
	struct bproc_err err = {.text = ""};
	char *line = malloc(6000);
	struct config c;

	ck_assert_int_eq(config_parse("conf", nul, sizeof(nul) - 1, &c, &err), -EINVAL);
	memset(line, 'a', 6000);
	ck_assert_int_eq(config_parse("conf", line, 6000, &c, &err), -EINVAL);
	for (size_t i = 0; i < 6000; i++)
		line[i] = i % 2 ? ' ' : 'a';
	ck_assert_int_eq(config_parse("conf", line, 2000, &c, &err), -EINVAL);
	free(line);
}
END_TEST

START_TEST(too_many)
{
	char *text = malloc(1 << 17), *p = text;
	struct bproc_err err = {.text = ""};
	struct config c;

	p += snprintf(p, 64, "iprange 10.0.0.0 10.0.3.255\n");
	ck_assert_int_eq(parse(text, &c, &err), 0);
	ck_assert_uint_eq(c.count, 1024);
	config_free(&c);
	snprintf(p, 64, "ip 10.1.0.0\n");
	ck_assert_int_eq(parse(text, &c, &err), -EINVAL);
	ck_assert_str_eq(err.text, "conf:2: more than 1024 nodes");
	free(text);
}
END_TEST

START_TEST(no_file)
{
	struct bproc_err err = {.text = ""};
	struct config c;

	ck_assert_int_eq(config_load("/nonexistent/conf", &c, &err), -ENOENT);
	ck_assert_str_eq(err.text, "/nonexistent/conf: No such file or directory");
	ck_assert_int_eq(config_load("/", &c, &err), -EINVAL);
}
END_TEST

/* -- the key */

static char dir[] = "/tmp/bproc-core-XXXXXX";
static char key[64];

static void make_key(size_t len, mode_t mode)
{
	int fd = open(key, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	for (size_t i = 0; i < len; i++)
		ck_assert_int_eq(write(fd, "k", 1), 1);
	close(fd);
	ck_assert_int_eq(chmod(key, mode), 0);
}

START_TEST(key_modes)
{
	struct bproc_err err = {.text = ""};
	struct cluster_key k;
	char want[64];

	for (unsigned int mode = 0; mode < 0100; mode++) {
		make_key(64, 0600 | mode);
		if (mode == 0) {
			ck_assert_int_eq(key_load(key, &k, &err), 0);
			continue;
		}
		ck_assert_int_eq(key_load(key, &k, &err), -EPERM);
		ck_assert_ptr_nonnull(strstr(err.text, key));
		snprintf(want, sizeof(want), "mode %04o", 0600 | mode);
		ck_assert_ptr_nonnull(strstr(err.text, want));
		unlink(key);
	}
	make_key(64, 0400);
	ck_assert_int_eq(key_load(key, &k, &err), 0);
}
END_TEST

START_TEST(key_sizes)
{
	struct bproc_err err = {.text = ""};
	struct cluster_key a, b;

	make_key(KEY_MIN - 1, 0600);
	ck_assert_int_eq(key_load(key, &a, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "31 bytes, must be 32 to 4096"));
	make_key(KEY_MIN, 0600);
	ck_assert_int_eq(key_load(key, &a, &err), 0);
	make_key(KEY_MIN + 1, 0600);
	ck_assert_int_eq(key_load(key, &b, &err), 0);
	ck_assert_mem_ne(a.psk, b.psk, KEY_PSK);
	make_key(KEY_MAX, 0600);
	ck_assert_int_eq(key_load(key, &a, &err), 0);
	make_key(KEY_MAX + 1, 0600);
	ck_assert_int_eq(key_load(key, &a, &err), -EINVAL);
}
END_TEST

START_TEST(key_kinds)
{
	struct bproc_err err = {.text = ""};
	struct cluster_key k;

	unlink(key);
	ck_assert_int_eq(key_load(key, &k, &err), -ENOENT);
	ck_assert_int_eq(mkfifo(key, 0600), 0);
	ck_assert_int_eq(key_load(key, &k, &err), -EINVAL);
	unlink(key);
	if (geteuid() != 0)
		return;
	make_key(64, 0600);
	ck_assert_int_eq(chown(key, 12345, 0), 0);
	ck_assert_int_eq(key_load(key, &k, &err), -EPERM);
	ck_assert_ptr_nonnull(strstr(err.text, "owned by uid 12345"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("config");
	TCase *t = tcase_create("config");
	SRunner *r = srunner_create(s);
	int failed;

	if (!mkdtemp(dir))
		return 1;
	snprintf(key, sizeof(key), "%s/key", dir);
	tcase_add_test(t, good);
	tcase_add_test(t, defaults);
	tcase_add_loop_test(t, errors, 0, sizeof(bad) / sizeof(*bad));
	tcase_add_test(t, odd_bytes);
	tcase_add_test(t, too_many);
	tcase_add_test(t, no_file);
	tcase_add_test(t, key_modes);
	tcase_add_test(t, key_sizes);
	tcase_add_test(t, key_kinds);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	unlink(key);
	rmdir(dir);
	return failed != 0;
}
