/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A trace: which experts a model chose, token by token. Three forms are read, told apart by their first bytes:
 *
 * lines    ours: JSON, one document a line. First the head, then lines that carry on with a layer's tokens where its
 *          last line stopped:
 *              {"schema":"accel-trace/1","experts":256,"topk":8,"layers":[3,4],"weights":true}
 *              {"layer":3,"ids":[[7,19,...],[...]],"weights":[[0.31,0.4,...],[...]]}
 *          ids: [tokens][topk], -1 is none; weights likewise, in every line or, "weights" being false or absent, in
 *          none. Layers are numbered as the checkpoint numbers them. Unknown keys are ignored. A line has at most
 *          MOE_TRACE_LINE_BYTES_MAX bytes.
 * raw      int32 [tokens, layers, topk], little-endian, as SGLang records with return_routed_experts
 * base64   the same as text, as SGLang returns it: one string or several, one after the other, broken anywhere
 *
 * A raw or base64 dump does not say which layers it has: all of the model (SGLang's, dense ones included and passed
 * over here), or those with experts alone (vLLM's), whichever its size allows, unless the caller says so.
 *
 * A trace is read from front to back and never held whole; what it says is checked.
 */
#ifndef ACCEL_RUNTIME_TRACE_H
#define ACCEL_RUNTIME_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config.h"
#include "error.h"

enum { MOE_TRACE_LINE_BYTES_MAX = 1 << 20 };

enum moe_trace_form { MOE_TRACE_LINES, MOE_TRACE_RAW, MOE_TRACE_BASE64 };

struct moe_trace_head {
	enum moe_trace_form form;
	uint32_t experts, topk;
	uint32_t layers[MOE_LAYERS_MAX], layer_count; /* ascending */
	bool weights;				      /* every batch has them */
};

/* What a dump does not say. */
struct moe_trace_opts {
	const struct moe_config *config; /* experts, topk, and which layers have experts */
	const uint32_t *layers;		 /* [layer_count] as they lie in a dump, ascending */
	uint32_t layer_count;		 /* 0: by its size */
};

/* Some tokens of one layer, in order. */
struct moe_trace_batch {
	uint32_t layer; /* as the checkpoint numbers it */
	uint32_t tokens;
	const int32_t *ids;   /* [tokens, topk] -1 or below head.experts */
	const float *weights; /* [tokens, topk] finite; or NULL */
};

struct moe_trace;

/**
 * moe_trace_open - open a trace and read its head
 * Return: 0; -ENOENT; -EINVAL not a trace, or its size is that of no whole number of tokens; -ENOMEM.
 */
int moe_trace_open(const char *path, const struct moe_trace_opts *opts, struct moe_trace **trace,
		   struct moe_error *err);

/** moe_trace_start - the same from a stream that can seek, which is the trace's from now on, come what may */
int moe_trace_start(FILE *file, const char *name, const struct moe_trace_opts *opts,
		    struct moe_trace **trace, struct moe_error *err);
void moe_trace_close(struct moe_trace *trace);

const struct moe_trace_head *moe_trace_head(const struct moe_trace *trace);

/**
 * moe_trace_next - the next tokens of some layer, readable until the next call
 * Return: 1; 0 at the end; -EINVAL with a sentence that names the place; -EIO.
 */
int moe_trace_next(struct moe_trace *trace, struct moe_trace_batch *batch, struct moe_error *err);

/** moe_trace_begin - start a file of lines; @head->form is not read. 0 or -errno */
int moe_trace_begin(const char *path, const struct moe_trace_head *head, FILE **file,
		    struct moe_error *err);

/** moe_trace_write - a batch as one line; room for a few hundred tokens is certain. What fails shows at the end */
void moe_trace_write(FILE *file, const struct moe_trace_head *head,
		     const struct moe_trace_batch *batch);

/** moe_trace_end - 0, or -EIO if anything could not be written: then the file is removed */
int moe_trace_end(FILE *file, const char *path, struct moe_error *err);

#endif
