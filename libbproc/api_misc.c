/*
 * Version, error texts, images, and how a failure inside becomes errno and a text
 * outside. In every process that uses the library; bproc_version(3),
 * bproc_strerror(3), bproc_dump(3).
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "bproc.h"
#include "libbproc/client.h"
#include "vmadump.h"

static __thread struct bproc_err last_err;

struct bproc_err *api_err(void)
{
	return &last_err;
}

int api_ret(int negative_errno)
{
	errno = -negative_errno;
	return -1;
}

const char *bproc_errtext(void)
{
	return last_err.text;
}

const char *bproc_strerror(int err)
{
	static const char *const be_text[] = {
		[BE_INVALIDNODE - BE_INVALIDNODE] = "Invalid node number",
		[BE_NODEDOWN - BE_INVALIDNODE] = "Node is down",
		[BE_SAMENODE - BE_INVALIDNODE] = "Process is already on that node",
		[BE_SLAVEDIED - BE_INVALIDNODE] = "Node was lost during the call",
		[BE_INVALIDPROC - BE_INVALIDNODE] = "No such process in the cluster",
	};
	const char *text;
	int saved = errno;

	/* BProc 4 programs pass what pids[] of the v calls holds: the negative. */
	if (err < 0 && err != INT32_MIN)
		err = -err;
	if (err >= BE_INVALIDNODE && err <= BE_INVALIDPROC)
		return be_text[err - BE_INVALIDNODE];
	text = strerror(err);
	errno = saved;
	return text;
}

int bproc_version(struct bproc_version_t *vers)
{
	static const struct bproc_version_t ours = {
		.bproc_magic = BPROC_MAGIC, .arch = BPROC_ARCH, .magic = LOCAL_VERSION};
	struct client_answer ans;
	size_t n;
	int e;

	if (!vers)
		return api_ret(bproc_err_set(api_err(), EINVAL, "bproc_version: no structure"));
	e = client_ask(LOCAL_VERSION_ASK, NULL, 0, &ans, api_err());
	if (e < 0)
		return api_ret(e);
	*vers = ours;
	n = strnlen(ans.data, ans.len);
	if (n >= sizeof(vers->version_string))
		n = sizeof(vers->version_string) - 1;
	memcpy(vers->version_string, ans.data, n);
	client_answer_free(&ans);
	return 0;
}

int bproc_dump(int fd, int flags)
{
	struct vmad_err err;
	long n;

	/* Our connections are of this process and this machine. */
	client_close_all();
	n = vmad_dump(fd, (unsigned)flags, &err);
	if (n == 0)
		client_forget();
	if (n < 0)
		return api_ret(bproc_err_set(api_err(), err.code, "%s", err.text));
	return n > INT_MAX ? INT_MAX : (int)n;
}

int bproc_undump(int fd)
{
	struct vmad_err err;

	client_close_all();
	vmad_undump(fd, &err);
	return api_ret(bproc_err_set(api_err(), err.code, "%s", err.text));
}
