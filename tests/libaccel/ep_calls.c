// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Making a group and a context in a world of one, and what can be asked of them: what each call
 * gives and each error that it promises. Errors that take two ranks are in ep_create.c, ep_waits.c
 * and ep_faults.c; the calls of a round in ep_round.c.
 */
#include "ep_solo.h"

#include <errno.h>

TEST(ep, exchanges_with_itself)
{
	struct solo s;

	if (solo_open(&s, NULL))
		CHECK(round_trip(&s) && round_trip(&s));
	solo_close(&s);
}

/* ---- groups ---- */

TEST(group_create, refuses_bad_arguments)
{
	struct accel_group_opts opts = {.size = sizeof(opts)};
	struct accel_group *group = NULL;
	struct solo s;

	REQUIRE(group_open(&s));
	CHECK_EQ(accel_group_create(NULL, 0, 1, NULL, &group), -EINVAL);
	CHECK_EQ(accel_group_create(s.dev, 0, 1, NULL, NULL), -EINVAL);
	CHECK_EQ(accel_group_create(s.dev, 0, 0, NULL, &group), -EINVAL);
	CHECK_EQ(accel_group_create(s.dev, 1, 1, NULL, &group), -EINVAL);
	CHECK_EQ(accel_group_create(s.dev, 0, ACCEL_RANKS_MAX + 1, NULL, &group), -EINVAL);
	opts.reserved[7] = 1;
	CHECK_EQ(accel_group_create(s.dev, 0, 1, &opts, &group), -EINVAL);
	error_says(NULL, -EINVAL, "reserved");
	opts = (struct accel_group_opts){.size = sizeof(opts), .transports = "pigeon"};
	CHECK_EQ(accel_group_create(s.dev, 0, 1, &opts, &group), -EINVAL);
	error_says(NULL, -EINVAL, "pigeon");
	opts = (struct accel_group_opts){.size = 0};
	CHECK_EQ(accel_group_create(s.dev, 0, 1, &opts, &group), -EINVAL);
	CHECK(group == NULL);
	solo_close(&s);
}

TEST(group_create, takes_newer_and_older_option_structs)
{
	struct {
		struct accel_group_opts opts;
		uint64_t tail;
	} newer = {.opts = {.size = sizeof(newer)}};
	struct accel_group *group = NULL;
	struct solo s;

	REQUIRE(group_open(&s));
	CHECK_EQ(accel_group_create(s.dev, 0, 1, &newer.opts, &group), 0);
	accel_group_destroy(group);
	newer.tail = 1;
	CHECK_EQ(accel_group_create(s.dev, 0, 1, &newer.opts, &group), -E2BIG);
	newer.opts.size = offsetof(struct accel_group_opts, name);
	CHECK_EQ(accel_group_create(s.dev, 0, 1, &newer.opts, &group), 0);
	accel_group_destroy(group);
	solo_close(&s);
}

TEST(group_info, says_who_and_how_many)
{
	struct accel_group_info info = {.size = sizeof(info)};
	struct solo s;

	REQUIRE(group_open(&s));
	CHECK_EQ(accel_group_info_get(s.group, &info), 0);
	CHECK_EQ(info.rank, 0);
	CHECK_EQ(info.world, 1);
	CHECK(!strcmp(info.transport, "self"));
	CHECK_EQ(info.store_port, 0);
	CHECK_EQ(accel_group_info_get(s.group, NULL), -EINVAL);
	CHECK_EQ(accel_group_info_get(NULL, &info), -EINVAL);
	info.size = 0;
	CHECK_EQ(accel_group_info_get(s.group, &info), -EINVAL);
	solo_close(&s);
}

/* ---- create, size, info ---- */

TEST(destroy, takes_null)
{
	accel_ep_destroy(NULL);
	accel_group_destroy(NULL);
}

struct bad_shape {
	uint32_t hidden, topk, experts, tokens_max;
	const char *word;
};

TEST(ep_create, refuses_bad_shapes)
{
	static const struct bad_shape bad[] = {
		{0, TOPK, EXPERTS, TOKENS, "hidden"},
		{4, TOPK, EXPERTS, TOKENS, "hidden"},
		{HIDDEN + 1, TOPK, EXPERTS, TOKENS, "hidden"},
		{ACCEL_HIDDEN_MAX + 8, TOPK, EXPERTS, TOKENS, "hidden"},
		{UINT32_MAX - 7, TOPK, EXPERTS, TOKENS, "hidden"},
		{HIDDEN, 0, EXPERTS, TOKENS, "topk"},
		{HIDDEN, ACCEL_TOPK_MAX + 1, EXPERTS, TOKENS, "topk"},
		{HIDDEN, UINT32_MAX, EXPERTS, TOKENS, "topk"},
		{HIDDEN, TOPK, 0, TOKENS, "experts"},
		{HIDDEN, TOPK, ACCEL_EXPERTS_MAX + 1, TOKENS, "experts"},
		{HIDDEN, TOPK, UINT32_MAX, TOKENS, "experts"},
		{HIDDEN, TOPK, EXPERTS, 0, "tokens_max"},
		{HIDDEN, TOPK, EXPERTS, ACCEL_TOKENS_MAX + 1, "tokens_max"},
		{HIDDEN, TOPK, EXPERTS, UINT32_MAX, "tokens_max"},
	};
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)};
	struct accel_ep *ep = NULL;
	struct solo s;

	REQUIRE(group_open(&s));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct bad_shape *b = &bad[i];

		CHECK_EQ(accel_ep_create(s.group, b->hidden, b->topk, b->experts, b->tokens_max,
					 NULL, &ep),
			 -EINVAL);
		error_says(NULL, -EINVAL, b->word);
		CHECK_EQ(accel_ep_size_get(0, 1, b->hidden, b->topk, b->experts, b->tokens_max,
					   NULL, &sizes),
			 -EINVAL);
		error_says(NULL, -EINVAL, b->word);
	}
	CHECK_EQ(accel_ep_create(NULL, HIDDEN, TOPK, EXPERTS, TOKENS, NULL, &ep), -EINVAL);
	CHECK_EQ(accel_ep_create(s.group, HIDDEN, TOPK, EXPERTS, TOKENS, NULL, NULL), -EINVAL);
	CHECK(ep == NULL);
	solo_close(&s);
}

static int create_with(struct solo *s, const struct accel_ep_opts *opts)
{
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)};
	struct accel_ep *ep = NULL;
	int rc = accel_ep_create(s->group, HIDDEN, TOPK, EXPERTS, TOKENS, opts, &ep);

	CHECK_EQ(accel_ep_size_get(0, 1, HIDDEN, TOPK, EXPERTS, TOKENS, opts, &sizes), rc);
	accel_ep_destroy(ep);
	return rc;
}

#define CHECK_OPTION(field, value, word)                                                           \
	do {                                                                                       \
		struct accel_ep_opts option = {.size = sizeof(option), .field = (value)};          \
		CHECK_EQ(create_with(&s, &option), -EINVAL);                                       \
		error_says(NULL, -EINVAL, word);                                                   \
	} while (0)

TEST(ep_create, refuses_bad_options)
{
	static const int32_t ranks[][EXPERTS] = {{0, 0, 1, 0}, {0, -1, 0, 0}, {0, 0, 0, 0}};
	static const int32_t slots[][EXPERTS] = {{0, 1, 2, 4}, {0, 1, 2, 2}, {-1, 1, 2, 3}};
	struct accel_ep_opts tables = {.size = sizeof(tables), .expert_rank = ranks[2]};
	struct solo s;

	REQUIRE(group_open(&s));
	CHECK_OPTION(dtype, 3, "dtype");
	CHECK_OPTION(receive, 3, "receive");
	CHECK_OPTION(combine_input, 3, "combine_input");
	CHECK_OPTION(quant, 4, "quant");
	CHECK_OPTION(lanes, ACCEL_LANES_MAX + 1, "lanes");
	CHECK_OPTION(lanes, UINT32_MAX, "lanes");
	CHECK_OPTION(on_timeout, 2, "on_timeout");
	CHECK_OPTION(huge, 3, "huge");
	CHECK_OPTION(reserved[0], 1, "reserved");
	CHECK_OPTION(reserved[6], 1, "reserved");
	CHECK_OPTION(remote_ranks, 100, "remote_ranks");
	CHECK_OPTION(expert_rank, ranks[0], "expert_rank");
	CHECK_OPTION(expert_rank, ranks[1], "expert_rank");
	for (unsigned i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		tables.expert_slot = slots[i];
		CHECK_EQ(create_with(&s, &tables), -EINVAL);
		error_says(NULL, -EINVAL, "expert_slot");
	}
	CHECK_EQ(create_with(&s, &(struct accel_ep_opts){.size = 0}), -EINVAL);
	solo_close(&s);
}

TEST(ep_create, takes_newer_and_older_option_structs)
{
	struct {
		struct accel_ep_opts opts;
		uint64_t tail[2];
	} newer = {.opts = {.size = sizeof(newer)}};
	struct solo s;

	REQUIRE(group_open(&s));
	CHECK_EQ(create_with(&s, &newer.opts), 0);
	newer.tail[1] = 1;
	CHECK_EQ(create_with(&s, &newer.opts), -E2BIG);
	newer.opts.size = offsetof(struct accel_ep_opts, receive);
	newer.opts.receive = 77; /* beyond what the caller says it knows */
	CHECK_EQ(create_with(&s, &newer.opts), 0);
	solo_close(&s);
}

TEST(ep_create, says_enospc_when_there_is_no_room)
{
	struct accel_ep *ep = NULL;
	struct solo s;

	REQUIRE(group_open(&s));
	/*
	 * 2^20 tokens of 128 KiB: 128 GiB a copy, and 2^16 x 2^20 x 64 entries do not fit at all.
	 */
	CHECK_EQ(
		accel_ep_create(s.group, ACCEL_HIDDEN_MAX, 1, EXPERTS, ACCEL_TOKENS_MAX, NULL, &ep),
		-ENOSPC);
	error_says(NULL, -ENOSPC, "");
	CHECK(ep == NULL);
	solo_close(&s);
}

TEST(ep_size, says_eoverflow_beyond_32_bit_rows)
{
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)};

	CHECK_EQ(accel_ep_size_get(0, ACCEL_RANKS_MAX, HIDDEN, ACCEL_TOPK_MAX, EXPERTS,
				   ACCEL_TOKENS_MAX, NULL, &sizes),
		 -EOVERFLOW);
	error_says(NULL, -EOVERFLOW, "");
}

TEST(ep_size, refuses_bad_arguments)
{
	struct accel_ep_sizes sizes = {.size = sizeof(sizes)};

	CHECK_EQ(accel_ep_size_get(0, 0, HIDDEN, TOPK, EXPERTS, TOKENS, NULL, &sizes), -EINVAL);
	CHECK_EQ(accel_ep_size_get(2, 2, HIDDEN, TOPK, EXPERTS, TOKENS, NULL, &sizes), -EINVAL);
	CHECK_EQ(accel_ep_size_get(-1, 2, HIDDEN, TOPK, EXPERTS, TOKENS, NULL, &sizes), -EINVAL);
	CHECK_EQ(accel_ep_size_get(0, ACCEL_RANKS_MAX + 1, HIDDEN, TOPK, EXPERTS, TOKENS, NULL,
				   &sizes),
		 -EINVAL);
	CHECK_EQ(accel_ep_size_get(0, 2, HIDDEN, TOPK, EXPERTS, TOKENS, NULL, NULL), -EINVAL);
	sizes.size = 0;
	CHECK_EQ(accel_ep_size_get(0, 2, HIDDEN, TOPK, EXPERTS, TOKENS, NULL, &sizes), -EINVAL);
}

TEST(ep_size, is_what_create_takes)
{
	struct solo s;

	for (unsigned bits = 0; bits < 16; bits++) {
		struct accel_ep_opts opts = {
			.size = sizeof(opts),
			.dtype = bits & 1 ? ACCEL_DTYPE_FP8_E4M3 : ACCEL_DTYPE_BF16,
			.receive = bits & 2 ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE,
			.combine_input = bits & 4 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK,
			.lanes = bits & 8 ? 4 : 1,
		};
		struct accel_ep_sizes sizes = {.size = sizeof(sizes)};
		struct accel_ep_info info = {.size = sizeof(info)};

		if (solo_open(&s, &opts)) {
			CHECK_EQ(accel_ep_size_get(0, 1, HIDDEN, TOPK, EXPERTS, TOKENS, &opts,
						   &sizes),
				 0);
			CHECK_EQ(accel_ep_info_get(s.ep, &info), 0);
			CHECK_EQ(info.memory_bytes, sizes.total_bytes);
			CHECK_EQ(sizes.total_bytes, sizes.recv_bytes + sizes.quantised_bytes +
							    sizes.output_bytes + sizes.meta_bytes);
			CHECK_EQ(sizes.recv_bytes > 0, (bits & 2) != 0);
			CHECK(sizes.output_bytes >= (uint64_t)opts.lanes * TOKENS * HIDDEN * 2);
		}
		solo_close(&s);
	}
}

/* Never with experts: that is what the design promises about memory. */
TEST(ep_size, grows_with_ranks_and_not_with_experts)
{
	struct accel_ep_sizes few = {.size = sizeof(few)}, many = {.size = sizeof(many)};

	CHECK_EQ(accel_ep_size_get(0, 8, 7168, 8, 8, 128, NULL, &few), 0);
	CHECK_EQ(accel_ep_size_get(0, 8, 7168, 8, 1024, 128, NULL, &many), 0);
	CHECK(many.total_bytes - few.total_bytes < 100000);
	CHECK_EQ(accel_ep_size_get(0, 64, 7168, 8, 1024, 128, NULL, &many), 0);
	CHECK(many.total_bytes < 9 * few.total_bytes);
}

TEST(ep_info, describes_the_context)
{
	const struct accel_ep_opts opts = {
		.size = sizeof(opts), .dtype = ACCEL_DTYPE_FP8_E4M3, .lanes = 3};
	struct accel_ep_info info = {.size = sizeof(info)};
	struct solo s;

	if (solo_open(&s, &opts)) {
		CHECK_EQ(accel_ep_info_get(s.ep, &info), 0);
		CHECK_EQ(info.hidden, HIDDEN);
		CHECK_EQ(info.topk, TOPK);
		CHECK_EQ(info.experts, EXPERTS);
		CHECK_EQ(info.tokens_max, TOKENS);
		CHECK_EQ(info.dtype, ACCEL_DTYPE_FP8_E4M3);
		CHECK_EQ(info.receive, ACCEL_RECEIVE_IN_PLACE);
		CHECK_EQ(info.combine_input, ACCEL_COMBINE_RANK);
		CHECK_EQ(info.lanes, 3);
		CHECK_EQ(info.experts_local, EXPERTS);
		CHECK(info.row_bytes >= HIDDEN + 4 && info.row_bytes % 16 == 0);
		CHECK(info.window_page_bytes >= 4096);
		CHECK_EQ(accel_ep_info_get(s.ep, NULL), -EINVAL);
		CHECK_EQ(accel_ep_info_get(NULL, &info), -EINVAL);
		info.size = 0;
		CHECK_EQ(accel_ep_info_get(s.ep, &info), -EINVAL);
	}
	solo_close(&s);
}

TEST(ep_info, writes_no_more_than_the_caller_knows)
{
	struct accel_ep_info info;
	struct solo s;

	memset(&info, 0x77, sizeof(info));
	info.size = offsetof(struct accel_ep_info, topk);
	if (solo_open(&s, NULL)) {
		CHECK_EQ(accel_ep_info_get(s.ep, &info), 0);
		CHECK_EQ(info.hidden, HIDDEN);
		CHECK_EQ(info.topk, 0x77777777);
		CHECK_EQ(info.size, offsetof(struct accel_ep_info, topk));
	}
	solo_close(&s);
}

/* ---- masks, counters, waits, abort, errors ---- */

TEST(ep_mask, refuses_itself_and_strangers)
{
	uint64_t missing[ACCEL_RANKS_MAX / 64] = {1};
	struct solo s;

	if (solo_open(&s, NULL)) {
		CHECK_EQ(accel_ep_mask(s.ep, 0), -EINVAL);
		CHECK_EQ(accel_ep_mask(s.ep, 1), -ENOENT);
		CHECK_EQ(accel_ep_mask(s.ep, -1), -ENOENT);
		CHECK_EQ(accel_ep_mask(s.ep, INT32_MAX), -ENOENT);
		CHECK_EQ(accel_ep_mask(NULL, 0), -EINVAL);
		CHECK_EQ(accel_ep_masks_get(s.ep, missing), 0);
		CHECK_EQ(missing[0], 0);
		CHECK_EQ(accel_ep_masks_get(s.ep, NULL), -EINVAL);
		CHECK_EQ(accel_ep_masks_get(NULL, missing), -EINVAL);
		CHECK(round_trip(&s));
	}
	solo_close(&s);
}

TEST(ep_stats, count_and_refuse_null)
{
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	uint64_t wait_ns = 77;
	struct solo s;

	if (solo_open(&s, NULL) && round_trip(&s)) {
		CHECK_EQ(accel_ep_stats_get(s.ep, &stats), 0);
		CHECK_EQ(stats.rounds, 1);
		CHECK_EQ(stats.rows_sent, TOKENS);
		CHECK_EQ(stats.rows_received, TOKENS);
		CHECK_EQ(stats.bytes_staged, 0);
		CHECK_EQ(stats.maps, 0);
		CHECK_EQ(accel_ep_stats_get(s.ep, NULL), -EINVAL);
		CHECK_EQ(accel_ep_stats_get(NULL, &stats), -EINVAL);
		stats.size = 0;
		CHECK_EQ(accel_ep_stats_get(s.ep, &stats), -EINVAL);
		CHECK_EQ(accel_ep_waits_get(s.ep, &wait_ns), 0);
		CHECK(wait_ns < 1000000000);
		CHECK_EQ(accel_ep_waits_get(s.ep, NULL), -EINVAL);
		CHECK_EQ(accel_ep_waits_get(NULL, &wait_ns), -EINVAL);
	}
	solo_close(&s);
}

TEST(ep_abort, is_for_good)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct solo s;

	if (solo_open(&s, NULL)) {
		CHECK_EQ(accel_ep_abort(NULL), -EINVAL);
		CHECK_EQ(accel_ep_dispatch_begin(s.ep, 0, &s.input), 0);
		CHECK_EQ(accel_ep_abort(s.ep), 0);
		CHECK_EQ(accel_ep_abort(s.ep), 0);
		CHECK_EQ(accel_ep_dispatch_end(s.ep, 0, -1, &recv), -ECANCELED);
		error_says(s.ep, -ECANCELED, "abort");
		CHECK_EQ(accel_ep_dispatch_begin(s.ep, 1, &s.input), -ECANCELED);
		CHECK_EQ(accel_ep_dispatch(s.ep, 1, &s.input, 0, &recv), -ECANCELED);
	}
	solo_close(&s);
}

TEST(ep_error, is_data_and_keeps_the_last_failure)
{
	struct accel_error error = {.size = sizeof(error)};
	struct solo s;

	if (solo_open(&s, NULL)) {
		CHECK_EQ(accel_error_get(s.ep, &error), 0);
		CHECK_EQ(error.code, 0);
		s.input.tokens = TOKENS + 1;
		CHECK_EQ(accel_ep_dispatch_begin(s.ep, 1, &s.input), -EINVAL);
		CHECK_EQ(accel_error_get(s.ep, &error), 0);
		CHECK_EQ(error.code, -EINVAL);
		CHECK_EQ(error.rank, -1);
		CHECK_EQ(error.lane, 1);
		CHECK_EQ(error.phase, ACCEL_PHASE_DISPATCH);
		CHECK(strstr(error.text, "9") && strstr(error.text, "8"));
		CHECK_EQ(accel_error_get(s.ep, NULL), -EINVAL);
		CHECK_EQ(accel_error_get(&s.ids, &error), -EINVAL);
	}
	solo_close(&s);
}
