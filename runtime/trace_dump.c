// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Dumps: int32 [tokens, layers, topk], little-endian, raw or as base64. They have no head, so their
 * size is looked at first: it says which layers there are, and that no token is cut short.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "trace_form.h"

enum { END = -1, BAD = -2 }; /* of next_byte() */

static int sextet(int c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* A string ends with padding, or with the last of its bytes; the next may follow at once. */
static int next_byte(struct moe_trace *t)
{
	if (t->head.form == MOE_TRACE_RAW)
		return getc_unlocked(t->file);
	while (t->bit_count < 8) {
		int c = getc_unlocked(t->file), six = sextet(c);

		if (c == EOF)
			return t->bit_count < 6 ? END : BAD;
		if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
			continue;
		if (c == '=' && t->bit_count < 6)
			t->bit_count = 0;
		else if (six < 0)
			return BAD;
		else {
			t->bits = (t->bits << 6 | (unsigned)six) & 0xffff;
			t->bit_count += 6;
		}
	}
	t->bit_count -= 8;
	return t->bits >> t->bit_count & 0xff;
}

static int bad_text(const struct moe_trace *t, struct moe_error *err)
{
	return moe_error_set(
		err, -EINVAL,
		"%s: byte %ld is neither base64 nor the end of it: a trace is JSON lines, "
		"base64, or raw int32",
		t->name, ftell(t->file));
}

/* How many bytes the dump has, and back to its start. */
static int measure(struct moe_trace *t, uint64_t *bytes, struct moe_error *err)
{
	*bytes = 0;
	if (t->head.form == MOE_TRACE_RAW) {
		long end = fseek(t->file, 0, SEEK_END) ? -1 : ftell(t->file);

		*bytes = end < 0 ? 0 : (uint64_t)end;
	} else {
		int byte;

		while ((byte = next_byte(t)) >= 0)
			++*bytes;
		if (byte == BAD)
			return bad_text(t, err);
		t->bit_count = 0;
	}
	return fseek(t->file, 0, SEEK_SET)
		       ? moe_error_set(err, -EIO, "%s: %s", t->name, strerror(errno))
		       : 0;
}

static bool is_whole(const struct moe_trace *t, uint64_t bytes)
{
	uint64_t token = (uint64_t)t->head.layer_count * t->head.topk * sizeof(int32_t);

	return token && bytes && bytes % token == 0;
}

static void list_layers(struct moe_trace *t, bool with_experts_only)
{
	t->head.layer_count = 0;
	for (uint32_t l = 0; l < t->config->layers && l < MOE_LAYERS_MAX; l++)
		if (!with_experts_only || moe_config_is_moe(t->config, l))
			t->head.layers[t->head.layer_count++] = l;
}

int moe_trace_dump_start(struct moe_trace *t, const struct moe_trace_opts *opts,
			 struct moe_error *err)
{
	uint64_t bytes;
	int rc = measure(t, &bytes, err);

	if (rc)
		return rc;
	t->head.experts = t->config->experts;
	t->head.topk = t->config->topk;
	t->head.layer_count = opts->layer_count;
	if (opts->layer_count)
		memcpy(t->head.layers, opts->layers, opts->layer_count * sizeof(*opts->layers));
	else
		list_layers(t, false);
	if (!opts->layer_count && !is_whole(t, bytes))
		list_layers(t, true);
	if (!is_whole(t, bytes))
		return moe_error_set(err, -EINVAL,
				     "%s: %" PRIu64
				     " bytes are no whole number of tokens of %" PRIu32
				     " layers x top-%" PRIu32 " x int32: say which layers it has",
				     t->name, bytes, t->head.layer_count, t->head.topk);
	t->ids = calloc((size_t)t->head.layer_count * t->head.topk, sizeof(*t->ids));
	if (!t->ids)
		return moe_error_set(err, -ENOMEM, "%s: no memory for a token", t->name);
	t->layer_at = t->head.layer_count;
	return 0;
}

/* 1; 0 at the end. */
static int read_token(struct moe_trace *t, struct moe_error *err)
{
	uint32_t count = t->head.layer_count * t->head.topk;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t word = 0;

		for (unsigned shift = 0; shift < 32; shift += 8) {
			int byte = next_byte(t);

			if (byte == BAD)
				return bad_text(t, err);
			if (byte < 0 && (i || shift || ferror(t->file)))
				return moe_error_set(err, -EIO,
						     "%s: token %" PRIu64 " is cut short", t->name,
						     t->token);
			if (byte < 0)
				return 0;
			word |= (uint32_t)byte << shift;
		}
		t->ids[i] = (int32_t)word;
	}
	t->token++;
	t->layer_at = 0;
	return 1;
}

int moe_trace_dump_next(struct moe_trace *t, struct moe_trace_batch *batch, struct moe_error *err)
{
	const int32_t *ids;

	do {
		if (t->layer_at == t->head.layer_count) {
			int rc = read_token(t, err);

			if (rc <= 0)
				return rc;
		}
	} while (!moe_config_is_moe(t->config, t->head.layers[t->layer_at++]));
	ids = t->ids + (size_t)(t->layer_at - 1) * t->head.topk;
	for (uint32_t k = 0; k < t->head.topk; k++)
		if (ids[k] < -1 || ids[k] >= (int32_t)t->head.experts)
			return moe_error_set(err, -EINVAL,
					     "%s: token %" PRIu64 " of layer %" PRIu32
					     " chose expert %" PRId32 ", not one of %" PRIu32
					     ": are layers, top-k and experts right?",
					     t->name, t->token - 1, t->head.layers[t->layer_at - 1],
					     ids[k], t->head.experts);
	*batch = (struct moe_trace_batch){
		.layer = t->head.layers[t->layer_at - 1], .tokens = 1, .ids = ids};
	return 1;
}
