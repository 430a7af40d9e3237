/*
 * The cluster key (keyfile.h). What TLS gets is HMAC-SHA256 of the file under a
 * fixed label: 32 bytes whatever the file's length, and a key that is used for
 * something else as well does not show here. Runs in every daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "keyfile.h"
#include "sysio.h"

static const char label[] = "bproc cluster link, external PSK, version 1";

static int check_file(const char *path, int fd, struct bproc_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return bproc_err_set(err, errno, "key file %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return bproc_err_set(err, EINVAL, "key file %s: not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return bproc_err_set(err, EPERM, "key file %s: owned by uid %u, must be root or %u",
				     path, st.st_uid, geteuid());
	if (st.st_mode & 077)
		return bproc_err_set(
			err, EPERM,
			"key file %s: mode %04o lets others use it, must be 0400 or 0600", path,
			st.st_mode & 07777);
	return 0;
}

int key_load(const char *path, struct cluster_key *ret_key, struct bproc_err *err)
{
	unsigned char buf[KEY_MAX + 1];
	unsigned int len = 0;
	cleanup_fd int fd = -1;
	ssize_t n;
	int r;

	/* Not blocking: someone may have put a fifo there. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return bproc_err_set(err, errno, "key file %s: %s", path, strerror(errno));
	r = check_file(path, fd, err);
	if (r < 0)
		return r;
	while (len < sizeof(buf)) {
		n = read(fd, buf + len, sizeof(buf) - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return bproc_err_set(err, errno, "key file %s: %s", path, strerror(errno));
		if (n == 0)
			break;
		len += (unsigned int)n;
	}
	if (len < KEY_MIN || len > KEY_MAX)
		r = bproc_err_set(err, EINVAL, "key file %s: %u%s bytes, must be %u to %u", path,
				  len, len > KEY_MAX ? " or more" : "", KEY_MIN, KEY_MAX);
	else if (!HMAC(EVP_sha256(), label, sizeof(label) - 1, buf, len, ret_key->psk, NULL))
		r = bproc_err_set(err, EIO, "key file %s: HMAC-SHA256 failed", path);
	OPENSSL_cleanse(buf, sizeof(buf));
	return r;
}

void key_wipe(struct cluster_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}
