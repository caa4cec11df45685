// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A trace as a hostile file, of any form: whatever is accepted must be within the limits of its head, and a refusal
 * must say something. Every id and weight is read.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct moe_trace_head *head, const struct moe_trace_batch *batch)
{
	bool known = false;

	for (uint32_t l = 0; l < head->layer_count; l++)
		known |= head->layers[l] == batch->layer;
	if (!known || !batch->tokens || head->weights != (batch->weights != NULL))
		abort();
	for (size_t i = 0; i < (size_t)batch->tokens * head->topk; i++)
		if (batch->ids[i] < -1 || batch->ids[i] >= (int32_t)head->experts ||
		    (batch->weights && !isfinite(batch->weights[i])))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct moe_config config = moe_config_r1;
	const struct moe_trace_opts opts = {.config = &config};
	struct moe_error err = {0};
	struct moe_trace_batch batch;
	struct moe_trace *trace;
	FILE *file = size ? fmemopen((void *)data, size, "r") : NULL;
	int rc;

	config.layers = 5;
	config.topk = 2;
	if (!file)
		return 0;
	rc = moe_trace_start(file, "fuzz", &opts, &trace, &err);
	if (!rc) {
		while ((rc = moe_trace_next(trace, &batch, &err)) == 1)
			check(moe_trace_head(trace), &batch);
		moe_trace_close(trace);
	}
	if (rc && (!memchr(err.text, 0, sizeof(err.text)) || !err.text[0]))
		abort();
	return 0;
}
