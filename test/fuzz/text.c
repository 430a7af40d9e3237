/*
 * Texts from outside: the configuration file, and what /proc says of a process
 * (its name may be anything that its owner likes).
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "libbproc/config.h"
#include "slaved/bpslave.h"

struct slave slave; /* bpslave_proc.c asks it where it is */

static void config(const char *text, size_t len)
{
	struct bproc_err err = {.text = ""};
	struct config c;
	int r = config_parse("file", text, len, &c, &err);

	if (r < 0) {
		MUST(err.text[0]);
		return;
	}
	MUST(c.count <= CONFIG_NODES_MAX);
	for (uint32_t i = 1; i < c.count; i++)
		MUST(c.node[i - 1].node < c.node[i].node);
	config_free(&c);
}

static void proc(const char *text)
{
	uint64_t rlim[16][2];
	struct proc_ids ids;

	if (proc_parse_status(text, &ids) == 0) {
		MUST(ids.pid >= 0 && ids.pgid >= 0 && ids.sid >= 0);
		MUST(memchr(ids.comm, 0, sizeof(ids.comm)));
	}
	proc_parse_limits(text, rlim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);

	MUST(text);
	memcpy(text, data, len);
	text[len] = '\0';
	config(text, len);
	proc(text);
	free(text);
	return 0;
}
