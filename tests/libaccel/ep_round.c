// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The calls of a round one by one in a world of one: each error that they promise, and that a
 * refused call has changed nothing, so that the round goes on as if it had not been made.
 */
#include "ep_solo.h"

#include <errno.h>

/* What a refused call must leave alone: the lane is idle still and the next round is whole. */
static void refuse_input(struct solo *s, const struct accel_ep_input *input, int code,
			 const char *word, int line)
{
	int rc = accel_ep_dispatch_begin(s->ep, 0, input);

	tap_check(rc == code, __FILE__, line, "dispatch_begin is %d, not %d", rc, code);
	error_says(s->ep, code, word);
}

#define CHECK_INPUT(word, ...)                                                                     \
	do {                                                                                       \
		struct accel_ep_input input = s.input;                                             \
		__VA_ARGS__;                                                                       \
		refuse_input(&s, &input, -EINVAL, word, __LINE__);                                 \
	} while (0)

TEST(dispatch_begin, refuses_bad_input_before_a_side_effect)
{
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	int32_t ids[TOKENS * TOPK] = {0};
	struct solo s;

	if (solo_open(&s, NULL)) {
		CHECK_INPUT("tokens_max", input.tokens = TOKENS + 1);
		CHECK_INPUT("tokens_max", input.tokens = UINT32_MAX);
		CHECK_INPUT("x_dtype", input.x_dtype = 9);
		CHECK_INPUT("FP8", input.x_dtype = ACCEL_DTYPE_FP8_E4M3);
		CHECK_INPUT("x is NULL", input.x = NULL);
		CHECK_INPUT("misaligned", input.x = (uint8_t *)s.x + 1);
		CHECK_INPUT("topk_idx", input.topk_idx = NULL);
		CHECK_INPUT("x_stride_bytes", input.x_stride_bytes = HIDDEN * 2 - 16);
		CHECK_INPUT("x_stride_bytes", input.x_stride_bytes = HIDDEN * 2 + 8);
		CHECK_INPUT("x_stride_bytes", input.x_stride_bytes = UINT64_MAX - 15);
		CHECK_INPUT("x_stride_bytes", input.x_stride_bytes = 1ull << 40);
		CHECK_INPUT("stream", input.stream = &s);
		CHECK_INPUT("reserved", input.reserved[0] = 1);
		CHECK_INPUT("reserved", input.reserved[3] = 1);
		CHECK_INPUT("size", input.size = 0);
		ids[TOKENS * TOPK - 1] = EXPERTS;
		CHECK_INPUT("topk_idx of token 7", input.topk_idx = ids);
		ids[TOKENS * TOPK - 1] = -2;
		CHECK_INPUT("-2", input.topk_idx = ids);
		ids[TOKENS * TOPK - 1] = INT32_MIN;
		CHECK_INPUT("topk_idx", input.topk_idx = ids);
		refuse_input(&s, NULL, -EINVAL, "NULL", __LINE__);
		CHECK_EQ(accel_ep_dispatch_begin(NULL, 0, &s.input), -EINVAL);
		CHECK_EQ(accel_ep_dispatch_begin(s.ep, 2, &s.input), -EINVAL);
		CHECK_EQ(accel_ep_dispatch_begin(s.ep, UINT32_MAX, &s.input), -EINVAL);
		CHECK_EQ(accel_ep_stats_get(s.ep, &stats), 0);
		CHECK_EQ(stats.rows_sent, 0);
		CHECK_EQ(stats.bytes_staged, 0);
		CHECK(round_trip(&s));
	}
	solo_close(&s);
}

TEST(dispatch_begin, refuses_fp8_without_scales)
{
	const struct accel_ep_opts opts = {.size = sizeof(opts), .dtype = ACCEL_DTYPE_FP8_E4M3};
	float scales[TOKENS];
	struct solo s;

	if (solo_open(&s, &opts)) {
		s.input.x_dtype = ACCEL_DTYPE_FP8_E4M3;
		CHECK_INPUT("scales", input.scales = NULL);
		CHECK_INPUT("scales", input.scales = (float *)((uint8_t *)scales + 1));
		CHECK_INPUT("scales_stride_bytes", input.scales = scales,
			    input.scales_stride_bytes = 2);
		CHECK_INPUT("scales_stride_bytes", input.scales = scales,
			    input.scales_stride_bytes = 1ull << 40);
	}
	solo_close(&s);
}

TEST(dispatch_begin, takes_newer_and_older_structs)
{
	struct {
		struct accel_ep_input input;
		uint64_t tail;
	} newer;
	struct solo s;

	if (solo_open(&s, NULL)) {
		newer.input = s.input;
		newer.input.size = sizeof(newer);
		newer.tail = 1;
		refuse_input(&s, &newer.input, -E2BIG, "accel_ep_input", __LINE__);
		newer.tail = 0;
		s.input.size = offsetof(struct accel_ep_input, stream);
		s.input.stream = &s; /* beyond what the caller says it knows */
		CHECK(round_trip(&s));
	}
	solo_close(&s);
}

TEST(dispatch, of_no_tokens_needs_no_pointers)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_combined combined = {.size = sizeof(combined)};
	struct solo s;

	if (solo_open(&s, NULL)) {
		s.input = (struct accel_ep_input){.size = sizeof(s.input)};
		CHECK_EQ(accel_ep_dispatch(s.ep, 0, &s.input, -1, &recv), 0);
		CHECK_EQ(recv.rows, 0);
		CHECK_EQ(recv.entries, 0);
		CHECK_EQ(recv.rank_offset[1], 0);
		CHECK_EQ(recv.expert_offset[EXPERTS], 0);
		CHECK_EQ(accel_ep_combine(s.ep, 0, NULL, -1, NULL, 0, &combined), 0);
		CHECK_EQ(combined.incomplete, 0);
	}
	solo_close(&s);
}

TEST(dispatch_end, refuses_bad_arguments_and_stays_open)
{
	struct accel_ep_recv recv = {.size = 0};
	struct solo s;

	if (solo_open(&s, NULL)) {
		CHECK_EQ(accel_ep_dispatch_end(s.ep, 0, -1, &recv), -EBUSY);
		CHECK_EQ(accel_ep_dispatch_begin(s.ep, 0, &s.input), 0);
		CHECK_EQ(accel_ep_dispatch_end(s.ep, 0, -1, &recv), -EINVAL);
		CHECK_EQ(accel_ep_dispatch_end(s.ep, 0, -1, NULL), -EINVAL);
		recv.size = sizeof(recv);
		CHECK_EQ(accel_ep_dispatch_end(NULL, 0, -1, &recv), -EINVAL);
		CHECK_EQ(accel_ep_dispatch_end(s.ep, 2, -1, &recv), -EINVAL);
		CHECK_EQ(recv.rows, 0);
		CHECK_EQ(accel_ep_dispatch_end(s.ep, 0, -1, &recv), 0);
		CHECK_EQ(recv.rows, TOKENS);
	}
	solo_close(&s);
}

TEST(expand, refuses_bad_arguments_and_says_what_it_needs)
{
	static uint16_t x[64 * HIDDEN];
	struct accel_ep_expanded expand = {
		.size = sizeof(expand), .alignment = 4, .x = x, .rows_max = 64};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct solo s;

	if (solo_open(&s, NULL)) {
		CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), -EBUSY);
		CHECK_EQ(accel_ep_dispatch(s.ep, 0, &s.input, -1, &recv), 0);
		CHECK_EQ(accel_ep_expand(s.ep, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_expand(NULL, 0, &expand), -EINVAL);
		CHECK_EQ(accel_ep_expand(s.ep, 2, &expand), -EINVAL);
		expand.x = NULL;
		CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), -EINVAL);
		expand.x = x;
		expand.reserved = 1;
		CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), -EINVAL);
		expand.reserved = 0;
		memset(x, 0x77, sizeof(x));
		expand.rows_max = 15;
		CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), -ENOSPC);
		CHECK_EQ(expand.rows, 16);
		CHECK_EQ(x[0], 0x7777);
		expand.alignment = UINT32_MAX;
		CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), -ENOSPC);
		CHECK_EQ(x[0], 0x7777);
		expand.alignment = 0;
		expand.rows_max = 16;
		CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), 0);
		CHECK_EQ(expand.rows, 16);
		CHECK(!memcmp(x, s.x, HIDDEN * 2));
		expand.size = 0;
		CHECK_EQ(accel_ep_expand(s.ep, 0, &expand), -EINVAL);
	}
	solo_close(&s);
}

TEST(combine_begin, wants_a_buffer_for_more_results_than_output_rows)
{
	struct accel_ep_opts opts = {.size = sizeof(opts), .output_rows = TOKENS / 2};
	struct accel_ep_output output = {.size = sizeof(output)};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_result result = {.size = sizeof(result)};
	struct solo s;

	if (solo_open(&s, &opts)) {
		CHECK_EQ(accel_ep_output_get(s.ep, 0, &output), 0);
		CHECK_EQ(output.rows_max, TOKENS / 2);
		CHECK_EQ(accel_ep_dispatch(s.ep, 0, &s.input, -1, &recv), 0);
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, NULL), -EINVAL);
		error_says(s.ep, -EINVAL, "bring a buffer");
		result.y = s.out; /* would be staged there */
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, &result), -EINVAL);
		result.y = s.x; /* in a buffer */
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, &result), 0);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, s.out, 0, NULL), 0);
		CHECK(!memcmp(s.out, s.x, sizeof(s.out)));
	}
	solo_close(&s);
}

TEST(output_get, refuses_bad_arguments)
{
	struct accel_ep_output output = {.size = sizeof(output)};
	struct solo s;

	if (solo_open(&s, NULL)) {
		CHECK_EQ(accel_ep_output_get(s.ep, 0, &output), 0);
		CHECK_EQ(output.rows_max, TOKENS);
		CHECK(output.y && (uintptr_t)output.y % 16 == 0);
		CHECK_EQ(accel_ep_output_get(s.ep, 2, &output), -EINVAL);
		CHECK_EQ(accel_ep_output_get(NULL, 0, &output), -EINVAL);
		CHECK_EQ(accel_ep_output_get(s.ep, 0, NULL), -EINVAL);
		output.size = 0;
		CHECK_EQ(accel_ep_output_get(s.ep, 0, &output), -EINVAL);
	}
	solo_close(&s);
}

#define CHECK_RESULT(code, ...)                                                                    \
	do {                                                                                       \
		struct accel_ep_result result = {.size = sizeof(result), .y = s.x};                \
		__VA_ARGS__;                                                                       \
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, &result), code);                          \
	} while (0)

TEST(combine, refuses_bad_arguments_and_stays_where_it_is)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_combined combined = {.size = 0};
	struct solo s;

	if (solo_open(&s, NULL) && CHECK_EQ(accel_ep_dispatch(s.ep, 0, &s.input, -1, &recv), 0)) {
		CHECK_RESULT(-EINVAL, result.size = 0);
		CHECK_RESULT(-EINVAL, result.stream = &s);
		CHECK_RESULT(-EINVAL, result.reserved[3] = 1);
		CHECK_RESULT(-EINVAL, result.y_stride_bytes = HIDDEN * 2 - 16);
		CHECK_RESULT(-EINVAL, result.y_stride_bytes = HIDDEN * 2 + 8);
		CHECK_RESULT(-EINVAL, result.y_stride_bytes = UINT64_MAX - 15);
		CHECK_RESULT(-EINVAL, result.y = (uint8_t *)s.x + 1);
		CHECK_EQ(accel_ep_combine_begin(s.ep, 2, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_begin(NULL, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine(NULL, 0, NULL, -1, s.out, 0, NULL), -EINVAL);
		CHECK_RESULT(0, result.y = s.x);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, NULL, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, (uint8_t *)s.out + 1, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, s.out, HIDDEN, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, s.out, 0, &combined), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(s.ep, 2, -1, s.out, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(NULL, 0, -1, s.out, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, s.out, 0, NULL), 0);
		CHECK(!memcmp(s.out, s.x, sizeof(s.out)));
	}
	solo_close(&s);
}

TEST(combine_begin, takes_newer_structs_with_zero_tails)
{
	struct {
		struct accel_ep_result result;
		uint64_t tail;
	} newer = {.result = {.size = sizeof(newer)}, .tail = 1};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct solo s;

	if (solo_open(&s, NULL) && CHECK_EQ(accel_ep_dispatch(s.ep, 0, &s.input, -1, &recv), 0)) {
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, &newer.result), -E2BIG);
		newer.tail = 0;
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, &newer.result), 0);
	}
	solo_close(&s);
}

/*
 * x and y are the library's while out is written: overlapping them is refused before anything is
 * written.
 */
TEST(combine_end, refuses_out_over_x_or_y)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_output output = {.size = sizeof(output)};
	struct solo s;

	if (solo_open(&s, NULL) && CHECK_EQ(accel_ep_dispatch(s.ep, 0, &s.input, -1, &recv), 0)) {
		CHECK_EQ(accel_ep_output_get(s.ep, 0, &output), 0);
		memcpy(output.y, s.x, sizeof(s.out));
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, NULL), 0);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, output.y, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, s.x + HIDDEN, 0, NULL), -EINVAL);
		CHECK_EQ(accel_ep_combine_end(s.ep, 0, -1, s.out, 0, NULL), 0);
	}
	solo_close(&s);
}

/*
 * Repeated ids can bring more rows than the lane's own memory has: a buffer takes them, and nothing
 * else is touched.
 */
TEST(combine_begin, wants_a_buffer_for_more_results_than_output_has)
{
	const struct accel_ep_opts opts = {.size = sizeof(opts),
					   .combine_input = ACCEL_COMBINE_EXPERT};
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct accel_ep_result result = {.size = sizeof(result)};
	struct accel_group *group;
	struct solo s;

	REQUIRE(group_open(&s));
	group = s.group;
	if (CHECK_EQ(accel_ep_create(group, HIDDEN, 4, 1, TOKENS, &opts, &s.ep), 0)) {
		const int32_t ids[TOKENS * 4] = {0};

		CHECK_EQ(accel_buffer_create(s.dev, TOKENS * 4 * HIDDEN * 2, NULL, &s.buf), 0);
		s.input = (struct accel_ep_input){.size = sizeof(s.input),
						  .tokens = TOKENS,
						  .x = accel_buffer_addr(s.buf),
						  .topk_idx = ids};
		CHECK_EQ(accel_ep_dispatch(s.ep, 0, &s.input, -1, &recv), 0);
		CHECK_EQ(recv.entries, TOKENS * 4);
		CHECK_EQ(accel_ep_combine_begin(s.ep, 0, NULL), -EINVAL);
		error_says(s.ep, -EINVAL, "buffer");
		result.y = accel_buffer_addr(s.buf);
		CHECK_EQ(accel_ep_combine(s.ep, 0, &result, -1, s.out, 0, NULL), 0);
	}
	solo_close(&s);
}
