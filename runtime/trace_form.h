/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What the forms of a trace share; only trace*.c include it. */
#ifndef ACCEL_RUNTIME_TRACE_FORM_H
#define ACCEL_RUNTIME_TRACE_FORM_H

#include "trace.h"

struct moe_trace {
	FILE *file;
	const char *name; /* for errors */
	const struct moe_config *config;
	struct moe_trace_head head;
	int32_t *ids;	/* of the batch; of a dump: one token's, all layers */
	float *weights; /* lines only */
	/* lines */
	char *line;
	uint64_t line_number;
	uint32_t tokens_room; /* of ids and weights */
	/* dumps */
	uint64_t token;
	uint32_t layer_at; /* the next one of that token */
	unsigned bits, bit_count;
};

int moe_trace_lines_start(struct moe_trace *trace, struct moe_error *err);
int moe_trace_lines_next(struct moe_trace *trace, struct moe_trace_batch *batch,
			 struct moe_error *err);
int moe_trace_dump_start(struct moe_trace *trace, const struct moe_trace_opts *opts,
			 struct moe_error *err);
int moe_trace_dump_next(struct moe_trace *trace, struct moe_trace_batch *batch,
			struct moe_error *err);

#endif
