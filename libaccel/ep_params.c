// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * From the caller's arguments to a checked shape, and from a peer's shape to "rank 2 has lanes 1,
 * rank 0 has 2". Everything is decided before the first side effect; the sentences go to the
 * calling thread's error slot, since the context does not exist yet.
 */
#include "ep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FAIL(code, ...) accel_fail(NULL, code, ACCEL_AT_CREATE, __VA_ARGS__)

struct range {
	const char *name;
	uint32_t value, min, max;
};

static int check_ranges(const struct range *range, unsigned count)
{
	for (; count--; range++)
		if (range->value < range->min || range->value > range->max)
			return FAIL(-EINVAL, "%s is %u, not within %u..%u", range->name,
				    range->value, range->min, range->max);
	return 0;
}

static int check_shape(const struct accel_ep_shape *s, const struct accel_ep_local *local)
{
	const struct range ranges[] = {
		{"hidden", s->hidden, 1, ACCEL_HIDDEN_MAX},
		{"topk", s->topk, 1, ACCEL_TOPK_MAX},
		{"experts", s->experts, 1, ACCEL_EXPERTS_MAX},
		{"tokens_max", s->tokens_max, 1, ACCEL_TOKENS_MAX},
		{"dtype", s->dtype, ACCEL_DTYPE_BF16, ACCEL_DTYPE_FP8_E4M3},
		{"receive", s->receive, ACCEL_RECEIVE_IN_PLACE, ACCEL_RECEIVE_LANDED},
		{"combine_input", s->combine_input, ACCEL_COMBINE_RANK, ACCEL_COMBINE_EXPERT},
		{"quant", s->quant, ACCEL_QUANT_DIV, ACCEL_QUANT_UE8M0},
		{"lanes", s->lanes, 1, ACCEL_LANES_MAX},
		{"on_timeout", local->on_timeout, ACCEL_ON_TIMEOUT_ERROR, ACCEL_ON_TIMEOUT_MASK},
		{"huge", local->huge, ACCEL_HUGE_TRY, ACCEL_HUGE_NEED},
	};
	unsigned element_bytes = s->dtype == ACCEL_DTYPE_BF16 ? 2 : 1;
	int rc = check_ranges(ranges, sizeof(ranges) / sizeof(*ranges));

	if (rc)
		return rc;
	if (s->hidden * element_bytes % 16)
		return FAIL(-EINVAL, "hidden %u of %u byte elements is no multiple of 16 bytes",
			    s->hidden, element_bytes);
	return 0;
}

/* The first experts mod world ranks own one more. */
static void place_contiguous(int world, uint32_t experts, int32_t *rank)
{
	uint32_t base = experts / (uint32_t)world, more = experts % (uint32_t)world, id = 0;

	for (int r = 0; r < world; r++)
		for (uint32_t i = 0; i < base + ((uint32_t)r < more); i++)
			rank[id++] = r;
}

static int check_ranks(int world, uint32_t experts, const int32_t *rank)
{
	for (uint32_t e = 0; e < experts; e++)
		if (rank[e] < 0 || rank[e] >= world)
			return FAIL(-EINVAL, "expert_rank[%u] is %d, not within 0..%d", e, rank[e],
				    world - 1);
	return 0;
}

/* Each rank's slots must be 0..count-1, each once. */
static int check_slots(int world, uint32_t experts, const int32_t *rank, const int32_t *slot)
{
	uint32_t first[ACCEL_RANKS_MAX + 1] = {0};
	uint8_t taken[ACCEL_EXPERTS_MAX] = {0};

	for (uint32_t e = 0; e < experts; e++)
		first[rank[e] + 1]++;
	for (int r = 0; r < world; r++)
		first[r + 1] += first[r];
	for (uint32_t e = 0; e < experts; e++) {
		uint32_t count = first[rank[e] + 1] - first[rank[e]];

		if (slot[e] < 0 || (uint32_t)slot[e] >= count)
			return FAIL(-EINVAL, "expert_slot[%u] is %d, rank %d owns %u experts", e,
				    slot[e], rank[e], count);
		if (taken[first[rank[e]] + (uint32_t)slot[e]]++)
			return FAIL(-EINVAL,
				    "expert_slot[%u] is %d, which another expert of rank %d has", e,
				    slot[e], rank[e]);
	}
	return 0;
}

static int place(int world, uint32_t experts, const struct accel_ep_opts *opts, int32_t *rank,
		 int32_t *slot)
{
	uint32_t count[ACCEL_RANKS_MAX] = {0};
	int rc;

	if (opts->expert_slot && !opts->expert_rank)
		return FAIL(-EINVAL, "expert_slot is given without expert_rank");
	if (opts->expert_rank)
		memcpy(rank, opts->expert_rank, experts * sizeof(*rank));
	else
		place_contiguous(world, experts, rank);
	rc = check_ranks(world, experts, rank);
	if (rc)
		return rc;
	if (opts->expert_slot) {
		memcpy(slot, opts->expert_slot, experts * sizeof(*slot));
		return check_slots(world, experts, rank, slot);
	}
	for (uint32_t e = 0; e < experts; e++)
		slot[e] = (int32_t)count[rank[e]]++;
	return 0;
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
	return value ? value : fallback;
}

int accel_ep_params(int world, uint32_t hidden, uint32_t topk, uint32_t experts,
		    uint32_t tokens_max, const struct accel_ep_opts *user,
		    struct accel_ep_shape *shape, struct accel_ep_local *local,
		    int32_t *expert_rank, int32_t *expert_slot)
{
	struct accel_ep_opts opts;
	int rc = accel_struct_copy_in(NULL, "struct accel_ep_opts", user, &opts, sizeof(opts));

	if (!rc)
		rc = accel_opts_from_env_ep(&opts);
	if (rc)
		return rc;
	for (unsigned i = 0; i < sizeof(opts.reserved) / sizeof(*opts.reserved); i++)
		if (opts.reserved[i])
			return FAIL(-EINVAL, "struct accel_ep_opts: reserved[%u] is not 0", i);
	if (world < 1 || world > ACCEL_RANKS_MAX)
		return FAIL(-EINVAL, "world is %d, not within 1..%d", world, ACCEL_RANKS_MAX);
	if (opts.remote_ranks >= (uint32_t)world)
		return FAIL(-EINVAL, "remote_ranks is %u in a world of %d", opts.remote_ranks,
			    world);

	*shape = (struct accel_ep_shape){
		.version = ACCEL_EP_VERSION,
		.hidden = hidden,
		.topk = topk,
		.experts = experts,
		.tokens_max = tokens_max,
		.dtype = or_default(opts.dtype, ACCEL_DTYPE_BF16),
		.receive = or_default(opts.receive, ACCEL_RECEIVE_IN_PLACE),
		.combine_input = or_default(opts.combine_input, ACCEL_COMBINE_RANK),
		.quant = or_default(opts.quant, ACCEL_QUANT_DIV),
		.lanes = or_default(opts.lanes, 2),
	};
	*local = (struct accel_ep_local){
		.on_timeout = opts.on_timeout,
		.spin_us = opts.spin_us,
		.huge = opts.huge,
		.output_rows = opts.output_rows,
		.remotes = opts.remote_ranks,
		.timeout_ns = opts.timeout_ns,
	};
	rc = check_shape(shape, local);
	return rc ? rc : place(world, experts, &opts, expert_rank, expert_slot);
}

static const char *value_name(const char *field, uint32_t value, char *room, size_t bytes)
{
	static const struct {
		const char *field, *names[4];
	} enums[] = {
		{"dtype", {"", "bf16", "fp8"}},
		{"receive", {"", "in_place", "landed"}},
		{"combine_input", {"", "rank", "expert"}},
		{"quant", {"", "div", "mul", "ue8m0"}},
	};

	for (unsigned i = 0; i < sizeof(enums) / sizeof(*enums); i++)
		if (!strcmp(field, enums[i].field) && value < 4 && enums[i].names[value])
			return enums[i].names[value];
	snprintf(room, bytes, "%u", value);
	return room;
}

int accel_ep_compare(int rank, const struct accel_ep_shape *mine, const int32_t *my_tables,
		     int peer, const struct accel_ep_shape *theirs, const int32_t *their_tables)
{
	static const char *const names[] = {"version",	  "hidden", "topk",    "experts",
					    "tokens_max", "dtype",  "receive", "combine_input",
					    "quant",	  "lanes"};
	const struct accel_failure where = {peer, ACCEL_PHASE_CREATE, -1, 0, NULL};
	const uint32_t *a = &mine->version, *b = &theirs->version;
	char room[2][16];

	if (!theirs->version)
		return accel_fail(
			NULL, -EINVAL, &where,
			"rank %d refused its own arguments, or lacks memory; its error says why",
			peer);
	for (unsigned i = 0; i < sizeof(*mine) / sizeof(*a); i++)
		if (a[i] != b[i])
			return accel_fail(
				NULL, -EINVAL, &where, "%s differs: rank %d has %s, rank %d has %s",
				names[i], peer,
				value_name(names[i], b[i], room[0], sizeof(room[0])), rank,
				value_name(names[i], a[i], room[1], sizeof(room[1])));
	for (uint32_t i = 0; i < 2 * mine->experts; i++)
		if (my_tables[i] != their_tables[i])
			return accel_fail(NULL, -EINVAL, &where,
					  "%s[%u] differs: rank %d has %d, rank %d has %d",
					  i < mine->experts ? "expert_rank" : "expert_slot",
					  i % mine->experts, peer, their_tables[i], rank,
					  my_tables[i]);
	return 0;
}
