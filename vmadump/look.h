/* An image that is looked at, not restored: info.c, look.c. Library code, not installed. */
#pragma once

#include <stdio.h>

#include "vmadump/blob/blob.h"
#include "vmadump/blob/image.h"
#include "vmadump/carry.h"
#include "vmadump/pack.h"

struct record {
	const uint8_t *p;
	uint32_t len;
};

struct image {
	const uint8_t *head, *need;
	struct record rec[TAG_LAST + 1];
	struct record psinfo;
};

/*
 * Reads an image's head, or with all the whole of it, held against this machine. The blob holds
 * the head (head, head_len) until it is dropped.
 */
int look_at_image(struct source *s, int all, struct blob **ret, struct vmad_err *err);
/* Where in the head is what. */
void look_find_notes(struct image *im);
/* Text of the image: nothing of it may steer a terminal. */
void look_put_text(FILE *out, const char *s, size_t max);
/* The table of a tree whose first process's head b has, nothing of one that is none; drops b. */
int look_tree_info(struct source *s, struct blob *b, FILE *out, struct vmad_err *err);
