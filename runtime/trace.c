// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Which form a trace has. Ids are below 2^24 or -1, so that a byte 0 or 0xff is among any four bytes of a raw dump, and
 * none is in text.
 */
#include "trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trace_form.h"

enum { LOOK_BYTES = 4096 };

static int form_of(const struct moe_trace *t, const char *bytes, size_t count,
		   enum moe_trace_form *form, struct moe_error *err)
{
	static const char space[] = " \t\r\n";
	size_t first = 0;

	while (first < count && bytes[first] && strchr(space, bytes[first]))
		first++;
	if (first == count)
		return moe_error_set(err, -EINVAL, "%s: empty, not a trace", t->name);
	if (memchr(bytes, 0, count) || memchr(bytes, 0xff, count))
		*form = MOE_TRACE_RAW;
	else
		*form = bytes[first] == '{' ? MOE_TRACE_LINES : MOE_TRACE_BASE64;
	return 0;
}

int moe_trace_start(FILE *file, const char *name, const struct moe_trace_opts *opts,
		    struct moe_trace **trace, struct moe_error *err)
{
	struct moe_trace *t = calloc(1, sizeof(*t));
	char bytes[LOOK_BYTES];
	size_t count;
	int rc;

	if (!t) {
		fclose(file);
		return moe_error_set(err, -ENOMEM, "%s: no memory to read it", name);
	}
	t->file = file;
	t->name = name;
	t->config = opts->config;
	count = fread(bytes, 1, sizeof(bytes), file);
	if (ferror(file) || fseek(file, 0, SEEK_SET))
		rc = moe_error_set(err, -EIO, "%s: cannot be read as a file: %s", name,
				   strerror(errno));
	else
		rc = form_of(t, bytes, count, &t->head.form, err);
	if (!rc)
		rc = t->head.form == MOE_TRACE_LINES ? moe_trace_lines_start(t, err)
						     : moe_trace_dump_start(t, opts, err);
	if (rc)
		moe_trace_close(t);
	else
		*trace = t;
	return rc;
}

int moe_trace_open(const char *path, const struct moe_trace_opts *opts, struct moe_trace **trace,
		   struct moe_error *err)
{
	FILE *file = fopen(path, "re");

	if (!file)
		return moe_error_set(err, -errno, "%s: %s", path, strerror(errno));
	return moe_trace_start(file, path, opts, trace, err);
}

void moe_trace_close(struct moe_trace *trace)
{
	if (!trace)
		return;
	fclose(trace->file);
	free(trace->ids);
	free(trace->weights);
	free(trace->line);
	free(trace);
}

const struct moe_trace_head *moe_trace_head(const struct moe_trace *trace)
{
	return &trace->head;
}

int moe_trace_next(struct moe_trace *trace, struct moe_trace_batch *batch, struct moe_error *err)
{
	return trace->head.form == MOE_TRACE_LINES ? moe_trace_lines_next(trace, batch, err)
						   : moe_trace_dump_next(trace, batch, err);
}
