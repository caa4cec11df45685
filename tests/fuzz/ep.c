// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * An EP context of a world of one, made and driven with hostile arguments: sizes, options, placement
 * tables, token counts, strides, ids and weights. What is refused says why; what is accepted gives
 * lists within their bounds, and reads and writes no byte that was not given. Sizes are asked for
 * worlds of any size.
 */
#include <accel/accel_ep.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	ROUNDS = 3,
	TABLE_MAX = 64, /* experts that have a table */
};

#define BYTES_MAX (1u << 22) /* of a context that is made */

static struct accel_device *dev;
static struct accel_group *group;

struct input {
	const uint8_t *data;
	size_t left;
};

/* Zeros when there are no more. */
static void take(struct input *in, void *to, size_t bytes)
{
	const size_t got = bytes < in->left ? bytes : in->left;

	memset(to, 0, bytes);
	memcpy(to, in->data, got);
	in->data += got;
	in->left -= got;
}

static uint8_t byte(struct input *in)
{
	uint8_t value;

	take(in, &value, 1);
	return value;
}

/* Mostly small, sometimes anything. */
static uint32_t number(struct input *in, uint32_t most)
{
	const uint8_t kind = byte(in);
	uint32_t value;

	if (kind < 240)
		return kind % (most + 1);
	take(in, &value, sizeof(value));
	return value;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	if (accel_device_open("host", &dev) || accel_group_create(dev, 0, 1, NULL, &group))
		abort();
	return 0;
}

struct shape {
	uint32_t hidden, topk, experts, tokens_max;
	struct accel_ep_opts opts;
	int32_t rank[TABLE_MAX], slot[TABLE_MAX];
};

static void take_shape(struct input *in, struct shape *s)
{
	const uint8_t tables = byte(in);
	int8_t entry;

	*s = (struct shape){.opts = {.size = sizeof(s->opts)}};
	s->hidden = 8 * number(in, 20);
	s->topk = number(in, 9);
	s->experts = number(in, 20);
	s->tokens_max = number(in, 12);
	s->opts.dtype = number(in, 2);
	s->opts.receive = number(in, 2);
	s->opts.combine_input = number(in, 2);
	s->opts.quant = number(in, 3);
	s->opts.lanes = number(in, 4);
	s->opts.huge = ACCEL_HUGE_NEVER;
	if (s->experts > TABLE_MAX)
		return;
	for (uint32_t e = 0; e < s->experts && tables & 1; e++) {
		take(in, &entry, 1);
		s->rank[e] = tables & 4 ? entry : 0;
		take(in, &entry, 1);
		s->slot[e] = tables & 8 ? entry : (int32_t)(s->experts - 1 - e);
	}
	s->opts.expert_rank = tables & 1 ? s->rank : NULL;
	s->opts.expert_slot = tables & 2 ? s->slot : NULL;
}

static int is_told(const void *obj, int rc)
{
	struct accel_error error = {.size = sizeof(error)};

	accel_error_get(obj, &error);
	if (rc >= 0 || error.code != rc || strlen(error.text) < 10)
		abort();
	return rc;
}

/* rows of row_bytes, stride apart, and not a byte more. */
static uint8_t *rows_new(uint64_t rows, uint64_t stride, uint64_t row_bytes)
{
	const uint64_t bytes = rows ? (rows - 1) * stride + row_bytes : 0;
	uint8_t *at = rows && stride < 1 << 16 && bytes < BYTES_MAX ? malloc(bytes) : NULL;

	if (at)
		memset(at, 0x3c, bytes);
	return at;
}

static uint8_t touch(const void *ptr, uint64_t bytes)
{
	uint8_t sum = 0;

	for (uint64_t i = 0; i < bytes; i++)
		sum ^= ((const volatile uint8_t *)ptr)[i];
	return sum;
}

static void check_recv(const struct shape *s, const struct accel_ep_info *info,
		       const struct accel_ep_input *in, const struct accel_ep_recv *recv)
{
	const bool fp8 = info->dtype == ACCEL_DTYPE_FP8_E4M3;
	uint32_t entries = 0;

	if (recv->rows > in->tokens || recv->experts_local != s->experts ||
	    recv->rank_offset[1] != recv->rows || recv->expert_offset[s->experts] != recv->entries)
		abort();
	for (uint32_t n = 0; n < recv->rows; n++) {
		if ((uint32_t)recv->src_token[n] >= in->tokens)
			abort();
		touch(recv->row[n], s->hidden * (fp8 ? 1 : 2));
		if (fp8)
			touch(recv->scale[n], (s->hidden + 127) / 128 * 4);
		for (uint32_t k = 0; k < s->topk; k++) {
			const int32_t id = recv->topk_idx[n * s->topk + k];

			if (id < -1 || id >= (int32_t)s->experts)
				abort();
			entries += id >= 0;
		}
	}
	if (entries != recv->entries)
		abort();
	for (uint32_t i = 0; i < entries; i++)
		if (recv->expert_row[i] >= recv->rows || recv->expert_k[i] >= s->topk)
			abort();
}

static bool fits(const struct accel_ep_input *in, uint64_t row_bytes, uint64_t scale_bytes)
{
	return in->tokens <= 4096 && in->x_stride_bytes < 1 << 16 &&
	       in->scales_stride_bytes < 1 << 16 && row_bytes < 1 << 16 && scale_bytes < 1 << 16;
}

static int combine(struct accel_ep *ep, uint32_t lane, const struct shape *s,
		   const struct accel_ep_input *in, const struct accel_ep_recv *recv, uint8_t odd)
{
	const uint64_t row_bytes = 2ull * s->hidden;
	struct accel_ep_combined combined = {.size = sizeof(combined)};
	struct accel_ep_result result = {.size = sizeof(result)};
	const bool by_expert = s->opts.combine_input == ACCEL_COMBINE_EXPERT;
	uint8_t *y = rows_new(by_expert ? recv->entries : recv->rows, row_bytes, row_bytes),
		*out = rows_new(in->tokens, row_bytes + 2 * (odd & 3), row_bytes);
	int rc;

	result.y = odd & 4 ? y : NULL;
	rc = accel_ep_combine(ep, lane, &result, -1, out, row_bytes + 2 * (odd & 3), &combined);
	if (rc > 0)
		abort();
	free(y);
	free(out);
	return rc ? is_told(ep, rc) : 0;
}

static int make_round(struct input *bytes, const struct shape *s, const struct accel_ep_info *info,
		      struct accel_ep *ep)
{
	const uint32_t lane = number(bytes, info->lanes - 1);
	struct accel_ep_input in = {.size = sizeof(in), .tokens = number(bytes, s->tokens_max)};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	uint64_t row_bytes, scale_bytes = (s->hidden + 127) / 128 * 4;
	int32_t *ids;
	float *weights;
	int rc = 0;

	in.x_dtype = number(bytes, 2);
	row_bytes = s->hidden * (in.x_dtype == ACCEL_DTYPE_FP8_E4M3 ? 1 : 2);
	in.x_stride_bytes = byte(bytes) & 1 ? 0 : row_bytes + number(bytes, 64);
	in.scales_stride_bytes = byte(bytes) & 1 ? 0 : scale_bytes + number(bytes, 16);
	if (!fits(&in, row_bytes, scale_bytes))
		return -EINVAL; /* there is no such memory to give */
	ids = malloc(in.tokens * s->topk * sizeof(*ids));
	weights = malloc(in.tokens * s->topk * sizeof(*weights));
	for (uint32_t i = 0; i < in.tokens * s->topk; i++) {
		ids[i] = (int32_t)number(bytes, s->experts) - 1;
		take(bytes, &weights[i], byte(bytes) & 1 ? 4 : 0);
	}
	in.x = rows_new(in.tokens, in.x_stride_bytes ? in.x_stride_bytes : row_bytes, row_bytes);
	if (byte(bytes) & 1)
		in.scales = (float *)rows_new(
			in.tokens, in.scales_stride_bytes ? in.scales_stride_bytes : scale_bytes,
			scale_bytes);
	in.topk_idx = ids;
	in.topk_weights = byte(bytes) & 1 ? weights : NULL;
	rc = accel_ep_dispatch(ep, lane, &in, -1, &recv);
	if (rc)
		is_told(ep, rc);
	else
		check_recv(s, info, &in, &recv);
	rc = rc ? rc : combine(ep, lane, s, &in, &recv, byte(bytes));
	free((void *)in.x);
	free((void *)in.scales);
	free(weights);
	free(ids);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)}, alone = sizes;
	struct accel_ep_info info = {.size = sizeof(info)};
	struct accel_ep *ep = NULL;
	struct shape s;
	int rc, world;

	take_shape(&in, &s);
	world = (int)number(&in, 8);
	rc = accel_ep_size_get((int)number(&in, 8), world, s.hidden, s.topk, s.experts,
			       s.tokens_max, &s.opts, &sizes);
	if (rc)
		is_told(NULL, rc);
	rc = accel_ep_size_get(0, 1, s.hidden, s.topk, s.experts, s.tokens_max, &s.opts, &alone);
	if (!rc && alone.total_bytes > BYTES_MAX)
		return 0;
	if (accel_ep_create(group, s.hidden, s.topk, s.experts, s.tokens_max, &s.opts, &ep) != rc)
		abort();
	if (rc)
		return is_told(NULL, rc) && 0;
	if (accel_ep_info_get(ep, &info) || info.memory_bytes != alone.total_bytes)
		abort();
	for (int i = 0; i < ROUNDS; i++)
		make_round(&in, &s, &info, ep);
	accel_ep_destroy(ep);
	return 0;
}
