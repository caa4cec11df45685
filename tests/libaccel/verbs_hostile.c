// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A peer whose NIC writes what no rank writes: lines that lie, records of nothing, completions for lanes that
 * there are not (tests/verbs/loop.h, lie). Whoever receives it says what was wrong with it, or takes it for the
 * message that it still can be; it reads and writes nothing that is not there, and ends.
 *
 * check: no-tsan (an immediate that lies has a line looked at that a NIC still writes)
 */
#include "join.h"
#include "leaks.h"
#include "nics.h"

#include "verbs.h"

#include <stddef.h>

enum { LIAR = 1, ROUNDS_MAX = 3, AT_RANDOM = 24 };

#define SHORT_NS (300 * INT64_C(1000000)) /* of a wait: a line that never comes */

struct lie {
	struct nics n; /* first: what nics_run() hands on */
	unsigned nth;  /* WRITE_WITH_IMM of the round: 1 the dispatch, 2 the combine */
	uint32_t imm;
	unsigned at;
	uint8_t bits;
	const char *says; /* NULL: whatever it is */
};

/* A round; the first failure. */
static int round_of(struct exchange *e)
{
	int rc = exchange_dispatch_begin(e, 0);

	if (!rc)
		rc = exchange_dispatch_end(e, 0, SHORT_NS);
	if (!rc)
		rc = exchange_combine_begin(e, 0);
	return rc ? rc : exchange_combine_end(e, 0, SHORT_NS);
}

static void body(struct ranks_ctx *ctx, int rank)
{
	const struct lie *lie = ctx->arg;
	struct exchange e;
	int rc = 0;

	if (!nics_open(&e, ctx, rank, 0) || !whole_rounds(&e, 0, 1)) {
		exchange_close(&e);
		return;
	}
	ranks_meet(ctx, STARTED, 1, 2);
	if (rank == LIAR)
		verbs_loop()->lie(LIAR, lie->nth, lie->imm, lie->at, lie->bits);
	ranks_meet(ctx, STARTED, 2, 2);
	for (int i = 0; i < ROUNDS_MAX && rc >= 0; i++)
		rc = round_of(&e);
	if (rank != LIAR && lie->says) {
		const struct accel_error error = exchange_error(&e);

		if (!CHECK_EQ(rc, -EPROTO) || !CHECK_EQ(error.rank, LIAR) ||
		    !CHECK(strstr(error.text, lie->says)))
			tap_diag("it says: %s", error.text);
	}
	exchange_close(&e);
}

static void run(struct lie *lie, bool landed)
{
	const struct leaks held = leaks_count();

	join_shape(&lie->n.shape, 2, landed);
	nics_run(&lie->n, 0, body);
	CHECK_NO_LEAKS(held);
	if (tap_failing())
		tap_diag("message %u, immediate ^ %#x, byte %u ^ %#x", lie->nth, lie->imm, lie->at,
			 lie->bits);
}

#define LINE(field) offsetof(struct accel_line, field)

TEST(line, that_lies_is_told)
{
	struct lie lies[] = {
		{.at = LINE(incarnation), .bits = 1, .says = "a line of another incarnation"},
		{.at = LINE(round),
		 .bits = 1,
		 .says = "a line of another round than its completion says"},
		{.at = LINE(count) + 2, .bits = 0x40, .says = "counts more rows than there can be"},
		{.at = LINE(stripe_count) + 2,
		 .bits = 0x40,
		 .says = "counts more rows than there can be"},
		{.at = LINE(stripes), .bits = 0xf0, .says = "a line beyond its message's"},
		{.at = LINE(stripes), .bits = 1, .says = "a line beyond its message's"},
		{.at = LINE(base) + 3, .bits = 0x80, .says = "a line whose results have no room"},
		{.imm = 3u << 30, .says = "a completion for a lane that there is not"},
		{.imm = 3u << 28, /* no way, or a goodbye */ .says = "it sent a "},
		{.imm = 1u << 24, .says = "a line of another round than its completion says"},
		/* Places to which nothing was ever written. */
		{.imm = 7u << 25, .says = "a line of another incarnation"},
	};

	for (unsigned i = 0; i < sizeof(lies) / sizeof(*lies) && !tap_failing(); i++)
		for (lies[i].nth = 1; lies[i].nth <= 2 && !tap_failing(); lies[i].nth++)
			run(&lies[i], i % 2);
}

TEST(goodbye, that_was_not_said_is_told)
{
	struct lie lie = {.nth = 1,
			  .imm = ACCEL_WAY_GOODBYE << 28,
			  .says = "a goodbye of another incarnation"};

	run(&lie, false);
}

/* One of the two stripes that it names never comes. */
TEST(message, that_never_ends_is_waited_for_and_no_longer)
{
	struct lie lie = {.nth = 1, .at = LINE(stripes), .bits = 3};

	run(&lie, false);
}

TEST(message, with_anything_in_it_is_survived)
{
	uint64_t state = tap_seed();

	for (int i = 0; i < AT_RANDOM && !tap_failing(); i++) {
		struct lie lie = {.nth = 1 + (unsigned)tap_random(&state) % 4,
				  .at = (unsigned)tap_random(&state) % 512,
				  .bits = (uint8_t)(1 + tap_random(&state) % 255)};

		if (tap_random(&state) % 4 == 0)
			lie.imm = 1u << tap_random(&state) % 32;
		run(&lie, i % 2);
	}
}
