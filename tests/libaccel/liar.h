/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Two ranks of which one lies or goes: a victim and a liar with small contexts of one lane, and the
 * words of shm.c's board that a liar may write, since it owns its window. Not an exchange that is
 * checked bit for bit: that is exchange.h's.
 */
#ifndef ACCEL_TESTS_LIAR_H
#define ACCEL_TESTS_LIAR_H

#include "ep.h"
#include "ranks.h"
#include "tap.h"

enum {
	VICTIM = 0,
	LIAR = 1,
	WORLD = 2,
	HIDDEN = 256,
	TOPK = 4,
	EXPERTS = 6,
	TOKENS = 8, /* x in bf16 is one page */
};

enum event { LIAR_SENT, VICTIM_READ, LIAR_COMBINED, VICTIM_SUMMED, OPENED, CLOSED };

#define TIMEOUT_NS 20000000ll
#define LONG_NS 5000000000ll

struct mode {
	uint32_t dtype, receive, combine_input;
};

/* What the liar tells of itself, so that the victim's test knows what was shown. */
struct area {
	_Atomic uint64_t x_region, payload_region;
	_Atomic uint32_t victim_masked;
};

struct side {
	struct ranks_ctx *ctx;
	int rank;
	struct mode mode;
	struct accel_device *dev;
	struct accel_group *group;
	struct accel_ep *ep;
	struct accel_buffer *x;
	uint16_t out[TOKENS * HIDDEN];
	int32_t ids[TOKENS * TOPK];
	uint64_t random, admitted; /* the victim's incarnation, as the liar's board has it */
	uint32_t number;	   /* of the round, over all contexts of a run */
};

/* shm.c's board, in words that anybody may write who owns the window. */
static inline _Atomic uint64_t *board_admits(struct accel_ep *ep, int peer)
{
	return (void *)(ep->window->addr + 64 +
			(size_t)peer * (64 + 128 * (size_t)ep->shape.lanes));
}

static inline struct accel_signal *line_signal(struct accel_ep *ep, int peer, uint32_t lane,
					       enum accel_way way)
{
	return (void *)((uint8_t *)board_admits(ep, peer) + 64 + 64 * (2 * lane + way));
}

static inline _Atomic uint32_t *line_round(struct accel_ep *ep, int peer, uint32_t lane,
					   enum accel_way way)
{
	return (void *)(line_signal(ep, peer, lane, way) + 1);
}

static inline bool side_open(struct side *s, struct ranks_ctx *ctx, int rank)
{
	*s = (struct side){.ctx = ctx, .rank = rank, .random = tap_seed() + 7 * (uint64_t)rank};
	return CHECK_EQ(ranks_group_create(ctx, rank, 0, &s->dev, &s->group), 0) &&
	       CHECK_EQ(accel_buffer_create(s->dev, TOKENS * HIDDEN * 2, NULL, &s->x), 0);
}

static inline void side_close(struct side *s)
{
	accel_buffer_destroy(s->x);
	accel_group_destroy(s->group);
	accel_device_close(s->dev);
}

static inline bool context_open(struct side *s, int64_t timeout_ns)
{
	struct accel_ep_opts opts = {.size = sizeof(opts),
				     .dtype = s->mode.dtype,
				     .receive = s->mode.receive,
				     .combine_input = s->mode.combine_input,
				     .huge = ACCEL_HUGE_NEVER,
				     .lanes = 1,
				     .timeout_ns = timeout_ns};

	return CHECK_EQ(accel_ep_create(s->group, HIDDEN, TOPK, EXPERTS, TOKENS, &opts, &s->ep), 0);
}

static inline int begin(struct side *s, uint32_t tokens)
{
	struct accel_ep_input in = {.size = sizeof(in),
				    .tokens = tokens,
				    .topk_idx = s->ids,
				    .x = accel_buffer_addr(s->x)};

	for (uint32_t i = 0; i < TOKENS * TOPK; i++)
		s->ids[i] = (int32_t)tap_random_below(&s->random, EXPERTS + 1) - 1;
	for (uint32_t i = 0; i < TOKENS; i++)
		s->ids[i * TOPK] = i % 2 ? 0 : EXPERTS - 1; /* the last one is the victim's */
	return accel_ep_dispatch_begin(s->ep, 0, &in);
}

static inline int dispatch(struct side *s)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	int rc = begin(s, TOKENS);

	return rc ? rc : accel_ep_dispatch_end(s->ep, 0, LONG_NS, &recv);
}

static inline void run_one(void (*body)(struct ranks_ctx *ctx, int rank), bool threads)
{
	struct ranks_opts opts = {
		.world = WORLD, .threads = threads, .area_bytes = sizeof(struct area)};

	tap_seed(); /* once, before there are ranks */
	ranks_run(&opts, body);
}

#endif
