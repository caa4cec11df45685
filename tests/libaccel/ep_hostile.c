// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * A rank that joins as it should and then lies: in its signals, records and entry maps, before and
 * while they are read, and on its control socket. The other rank may return an error, never crash,
 * hang, or take a row from outside the memory it was shown; having masked the liar it completes.
 *
 * Runs with ranks as threads (one mapping) and as processes (mappings of their own size). The fuzz
 * runs a few seconds; ROUNDS=n in the environment makes n contexts a mode.
 *
 * check: no-tsan   what a liar does is a data race
 */
#include "ep_meet.h"
#include "liar.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
	ROUNDS_OF_A_CONTEXT = 3,
	CONTEXTS = 12,
	TRIES = 8,
};

/* ---- what the liar does ---- */

/* Near what is right, near the end of what there is, or anything. */
static uint64_t lie(uint64_t *random, uint64_t right, uint64_t end)
{
	const uint64_t row = HIDDEN * 2, at = tap_random(random);

	switch (tap_random_below(random, 10)) {
	case 0:
		return tap_random_below(random, 4);
	case 1:
		return right + 1 + at % 16;
	case 2:
		return right - 1 - at % 16;
	case 3:
		return UINT64_MAX - at % 64;
	case 4:
		return UINT32_MAX - at % 64;
	case 5:
		return end - at % 32;
	case 6:
		return end - row + at % 4;
	case 7:
		return right + row * (at % 16);
	case 8:
		return at % (end + 1);
	default:
		return at;
	}
}

static void lie_in_signal(struct side *s, struct accel_signal *signal)
{
	const uint64_t end = tap_random(&s->random) % 2 ? s->ep->window->bytes
							: TOKENS * HIDDEN * 2;
	const uint64_t ids[] = {atomic_load(&((struct area *)s->ctx->area)->x_region),
				s->ep->window->id, s->ep->payload->id, 0, tap_random(&s->random)};
	const uint64_t field = tap_random_below(&s->random, 9);
	uint64_t *wide[] = {&signal->meta, &signal->region, &signal->offset, &signal->scale_region,
			    &signal->scale_offset};
	uint32_t *narrow[] = {&signal->stride, &signal->scale_stride, &signal->count,
			      &signal->base};

	if (field == 1 || field == 3)
		*wide[field] = ids[tap_random_below(&s->random, 5)];
	else if (field < 5)
		*wide[field] = lie(&s->random, *wide[field], end);
	else
		*narrow[field - 5] = (uint32_t)lie(&s->random, *narrow[field - 5], end);
}

static void lie_in_words(struct side *s, uint32_t *words, uint64_t count)
{
	uint32_t *word = &words[tap_random_below(&s->random, count)];

	*(volatile uint32_t *)word = (uint32_t)lie(&s->random, *word, TOKENS);
}

/* Words of the entry map that the victim, rank 0, reads. */
static uint64_t map_words(const struct accel_ep_lane *lane)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < lane->rank_offset[1] * TOPK; i++)
		count += lane->topk_idx[i] >= 0;
	return count;
}

/* One lie that suits the way: a signal, a record or map word, rarely the round, admits or left. */
static void lie_once(struct side *s, enum accel_way way)
{
	struct accel_ep_lane *lane = &s->ep->lane[0];
	const uint64_t records = (uint64_t)lane->send_count[VICTIM] * s->ep->layout.record_bytes /
				 4;
	const uint64_t *admits;

	switch (tap_random_below(&s->random, 32)) {
	case 0:
		atomic_store(line_round(s->ep, VICTIM, 0, way),
			     (uint32_t)lie(&s->random, lane->round, 9));
		break;
	case 1:
		admits = (const uint64_t[]){s->admitted, s->admitted, ACCEL_ADMITS_NONE,
					    s->admitted + ACCEL_ADMITS_LEFT};
		atomic_store(board_admits(s->ep, VICTIM), admits[tap_random_below(&s->random, 4)]);
		break;
	case 2:
		atomic_store((_Atomic uint32_t *)(s->ep->window->addr + 24),
			     (uint32_t)tap_random_below(&s->random, 2));
		break;
	case 3 ... 17:
		lie_in_signal(s, line_signal(s->ep, VICTIM, 0, way));
		break;
	default:
		if (way == ACCEL_WAY_DISPATCH)
			lie_in_words(s, (uint32_t *)lane->records, records);
		else if (s->mode.combine_input == ACCEL_COMBINE_EXPERT && map_words(lane))
			lie_in_words(s, lane->map, map_words(lane));
		else
			lie_in_signal(s, line_signal(s->ep, VICTIM, 0, way));
	}
}

static void lie_on_socket(struct side *s)
{
	struct {
		struct accel_message_head head;
		struct accel_message_region body;
	} packet = {.head = {ACCEL_MESSAGE_MAGIC, (uint32_t)tap_random_below(&s->random, 7), 2,
			     sizeof(packet.body), 0}};
	const uint64_t ids[] = {atomic_load(&((struct area *)s->ctx->area)->x_region),
				s->ep->window->id, s->ep->payload->id, 0, tap_random(&s->random)};
	size_t bytes = sizeof(packet);

	packet.body.id = ids[tap_random_below(&s->random, 5)];
	packet.body.offset = lie(&s->random, 0, 4096);
	packet.body.bytes = lie(&s->random, 4096, 4096);
	if (packet.head.type == ACCEL_MESSAGE_UNREGION)
		packet.head.bytes = 8;
	if (tap_random(&s->random) % 4 == 0)
		bytes = tap_random_below(&s->random, bytes);
	else
		bytes = sizeof(packet.head) + packet.head.bytes;
	send(accel_channel_fd(s->group->channel[VICTIM]), &packet, bytes,
	     MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Lie, let the victim read, and perhaps go on lying while it does. */
static void lie_until(struct side *s, enum accel_way way, enum event told, enum event read,
		      bool socket)
{
	const bool goes_on = tap_random(&s->random) % 2;
	const uint64_t end_ns = ranks_now_ns() + LONG_NS;

	for (uint64_t lies = tap_random_below(&s->random, 4); lies; lies--)
		lie_once(s, way);
	if (socket)
		lie_on_socket(s);
	ranks_raise(s->ctx, told);
	while (goes_on && !ranks_raised(s->ctx, read, s->number) && ranks_now_ns() < end_ns)
		lie_once(s, way);
	ranks_await(s->ctx, read, s->number);
}

static void liar_round(struct side *s, bool socket)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	bool ok = !begin(s, TOKENS);

	s->number++;
	lie_until(s, ACCEL_WAY_DISPATCH, LIAR_SENT, VICTIM_READ, socket);
	ok = ok && !accel_ep_dispatch_end(s->ep, 0, LONG_NS, &recv) &&
	     !accel_ep_combine_begin(s->ep, 0, NULL);
	lie_until(s, ACCEL_WAY_COMBINE, LIAR_COMBINED, VICTIM_SUMMED, socket);
	if (ok)
		accel_ep_combine_end(s->ep, 0, LONG_NS, s->out, 0, NULL);
}

/* ---- what the victim sees ---- */

static bool lies_in(const void *ptr, uint64_t bytes, const struct accel_region *region)
{
	return region && (uintptr_t)ptr >= (uintptr_t)region->addr &&
	       (uintptr_t)ptr + bytes <= (uintptr_t)region->addr + region->bytes;
}

/* What the liar has shown besides its window. */
struct shown {
	struct accel_region *x, *payload;
};

/* In memory that this rank has, or that the liar has shown. */
static bool was_shown(struct side *s, const void *ptr, uint64_t bytes, const struct shown *shown)
{
	return lies_in(ptr, bytes, s->ep->window) || lies_in(ptr, bytes, s->ep->payload) ||
	       lies_in(ptr, bytes, s->ep->landed) ||
	       lies_in(ptr, bytes, s->ep->peer_window[LIAR]) || lies_in(ptr, bytes, shown->x) ||
	       lies_in(ptr, bytes, shown->payload) ||
	       ((uintptr_t)ptr >= (uintptr_t)accel_buffer_addr(s->x) &&
		(uintptr_t)ptr + bytes <= (uintptr_t)accel_buffer_addr(s->x) + TOKENS * HIDDEN * 2);
}

static uint8_t touch(const void *ptr, uint64_t bytes)
{
	uint8_t sum = 0;

	for (uint64_t i = 0; i < bytes; i++)
		sum ^= ((const volatile uint8_t *)ptr)[i];
	return sum;
}

static bool received_is_sound(struct side *s, const struct accel_ep_recv *recv,
			      const struct shown *shown)
{
	const bool fp8 = s->mode.dtype == ACCEL_DTYPE_FP8_E4M3;
	const uint64_t row_bytes = HIDDEN * (fp8 ? 1 : 2), scale_bytes = HIDDEN / 128 * 4;
	bool ok = CHECK(recv->rows <= WORLD * TOKENS) &&
		  CHECK(recv->entries <= recv->rows * TOPK) &&
		  CHECK_EQ(recv->rank_offset[WORLD], recv->rows);

	for (uint32_t n = 0; n < recv->rows && ok; n++) {
		ok = CHECK((uint32_t)recv->src_token[n] < TOKENS) &&
		     CHECK(was_shown(s, recv->row[n], row_bytes, shown)) &&
		     CHECK((uintptr_t)recv->row[n] % (fp8 ? 1 : 2) == 0);
		touch(recv->row[n], row_bytes);
		if (ok && fp8) {
			ok = CHECK(was_shown(s, recv->scale[n], scale_bytes, shown)) &&
			     CHECK((uintptr_t)recv->scale[n] % 4 == 0);
			touch(recv->scale[n], scale_bytes);
		}
	}
	for (uint32_t i = 0; i < recv->entries && ok; i++)
		ok = CHECK(recv->expert_row[i] < recv->rows) && CHECK(recv->expert_k[i] < TOPK);
	return ok;
}

static bool summed_is_sound(struct side *s, const struct shown *shown)
{
	const struct accel_ep_lane *lane = &s->ep->lane[0];
	uint64_t terms = lane->part_offset[lane->tokens];
	bool ok = true;

	if (s->mode.combine_input == ACCEL_COMBINE_EXPERT)
		terms = lane->term_offset[terms];
	for (uint64_t i = 0; i < terms && ok; i++)
		ok = CHECK(was_shown(s, lane->term_row[i], HIDDEN * 2, shown)) &&
		     CHECK((uintptr_t)lane->term_row[i] % 2 == 0);
	return ok;
}

/* An error is one that a liar can cause, and names it; masked, it is done with. */
static bool mask_liar(struct side *s, int rc)
{
	struct accel_error error = {.size = sizeof(error)};

	accel_error_get(s->ep, &error);
	atomic_store(&((struct area *)s->ctx->area)->victim_masked, 1);
	return CHECK(rc == -EPROTO || rc == -ESTALE || rc == -ETIMEDOUT || rc == -ESHUTDOWN ||
		     rc == -ECONNRESET) &&
	       CHECK_EQ(error.rank, LIAR) && CHECK_EQ(accel_ep_mask(s->ep, LIAR), 0);
}

static bool victim_receives(struct side *s, struct accel_ep_recv *recv)
{
	int rc = -EAGAIN;

	for (int i = 0; i < TRIES && rc; i++) {
		rc = accel_ep_dispatch_end(s->ep, 0, i ? TIMEOUT_NS : 0, recv);
		if (rc && rc != -EAGAIN && !mask_liar(s, rc))
			return false;
	}
	return CHECK_EQ(rc, 0);
}

static bool victim_sums(struct side *s)
{
	int rc = accel_ep_combine_begin(s->ep, 0, NULL);

	if (rc && (!mask_liar(s, rc) || !CHECK(rc == -ESTALE || rc == -ESHUTDOWN) ||
		   !CHECK_EQ(accel_ep_combine_begin(s->ep, 0, NULL), 0)))
		return false;
	ranks_await(s->ctx, LIAR_COMBINED, s->number);
	rc = -EAGAIN;
	for (int i = 0; i < TRIES && rc < 0; i++) {
		rc = accel_ep_combine_end(s->ep, 0, i ? TIMEOUT_NS : 0, s->out, 0, NULL);
		if (rc < 0 && rc != -EAGAIN && !mask_liar(s, rc))
			return false;
	}
	return CHECK(rc >= 0);
}

static bool victim_round(struct side *s)
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct area *area = s->ctx->area;
	struct shown shown = {0};
	int rc = begin(s, (uint32_t)tap_random_below(&s->random, TOKENS + 1));
	bool ok = CHECK_EQ(rc, 0);

	s->number++;
	ranks_await(s->ctx, LIAR_SENT, s->number);
	accel_channel_region(s->group->channel[LIAR], atomic_load(&area->x_region), &shown.x);
	accel_channel_region(s->group->channel[LIAR], atomic_load(&area->payload_region),
			     &shown.payload);
	ok = ok && victim_receives(s, &recv) && received_is_sound(s, &recv, &shown);
	ranks_raise(s->ctx, VICTIM_READ);
	ok = ok && victim_sums(s) && summed_is_sound(s, &shown);
	ranks_raise(s->ctx, VICTIM_SUMMED);
	accel_region_put(shown.payload);
	accel_region_put(shown.x);
	return ok;
}

/* One context, until the victim has masked the liar. */
static bool lied_to(struct side *s, uint32_t context, bool socket)
{
	struct area *area = s->ctx->area;
	bool ok = context_open(s, LONG_NS);

	if (ok && s->rank == LIAR) {
		ok = CHECK_EQ(accel_channel_share(s->group->channel[VICTIM], s->x->region, LONG_NS),
			      0);
		s->admitted = atomic_load(board_admits(s->ep, VICTIM));
		atomic_store(&area->x_region, s->x->region->id);
		atomic_store(&area->payload_region, s->ep->payload->id);
		atomic_store(&area->victim_masked, 0);
	}
	ok = ranks_meet(s->ctx, OPENED, context, WORLD) && ok;
	for (int i = 0; i < ROUNDS_OF_A_CONTEXT && ok; i++) {
		if (s->rank == LIAR)
			liar_round(s, socket);
		else
			ok = victim_round(s);
		if (atomic_load(&area->victim_masked))
			break;
	}
	ok = ranks_meet(s->ctx, CLOSED, context, WORLD) && ok;
	accel_ep_destroy(s->ep);
	s->ep = NULL;
	return ok;
}

/* The last context of a group hears lies on the socket too, which spoil it for good. */
static void fuzz(struct ranks_ctx *ctx, int rank)
{
	const char *rounds = getenv("ROUNDS");
	const uint32_t contexts = rounds ? (uint32_t)atoi(rounds) : CONTEXTS;
	struct side s;
	bool ok = side_open(&s, ctx, rank);

	s.mode = *(const struct mode *)ctx->arg;
	for (uint32_t i = 1; i <= contexts && ok; i++)
		ok = lied_to(&s, i, i == contexts);
	side_close(&s);
}

static void fuzz_all(bool threads)
{
	tap_seed();
	for (uint32_t i = 0; i < 8 && !tap_failing(); i++) {
		struct mode mode = {1 + i % 2, 1 + i / 2 % 2, 1 + i / 4};
		struct ranks_opts opts = {.world = WORLD,
					  .threads = threads,
					  .area_bytes = sizeof(struct area),
					  .arg = &mode,
					  .limit_s = 120};

		ranks_run(&opts, fuzz);
		if (tap_failing())
			tap_diag("dtype %u, receive %u, combine_input %u", mode.dtype, mode.receive,
				 mode.combine_input);
	}
}

TEST(lies, of_a_thread_never_take_the_other_out_of_its_memory)
{
	fuzz_all(true);
}

TEST(lies, of_a_process_never_take_the_other_out_of_its_memory)
{
	fuzz_all(false);
}

/* ---- one lie at a time ---- */

/* Dispatch as the liar's changed signal has it: what the victim's dispatch_end returns. */
static int dispatch_told(struct ranks_ctx *ctx, int rank,
			 void (*change)(struct accel_signal *signal))
{
	struct accel_ep_recv recv = {.size = sizeof(recv)};
	struct shown shown = {0};
	struct side s;
	int rc = -EINVAL;

	if (!side_open(&s, ctx, rank) || !context_open(&s, LONG_NS) ||
	    !CHECK_EQ(begin(&s, TOKENS), 0))
		return rc;
	if (rank == LIAR) {
		change(line_signal(s.ep, VICTIM, 0, ACCEL_WAY_DISPATCH));
		ranks_raise(ctx, LIAR_SENT);
		ranks_await(ctx, VICTIM_READ, 1);
	} else {
		ranks_await(ctx, LIAR_SENT, 1);
		rc = accel_ep_dispatch_end(s.ep, 0, TIMEOUT_NS, &recv);
		shown.x = s.ep->lane[0].peer[LIAR].held[ACCEL_LENT_X];
		CHECK(rc || received_is_sound(&s, &recv, &shown));
		if (rc)
			CHECK(mask_liar(&s, rc) && !accel_ep_dispatch_end(s.ep, 0, LONG_NS, &recv));
		ranks_raise(ctx, VICTIM_READ);
	}
	accel_ep_destroy(s.ep);
	side_close(&s);
	return rc;
}

static void change_nothing(struct accel_signal *signal)
{
	(void)signal;
}

static void change_offset(struct accel_signal *signal)
{
	signal->offset += 16;
}

static void change_stride(struct accel_signal *signal)
{
	signal->stride += 2;
}

static void change_alignment(struct accel_signal *signal)
{
	signal->offset += 1;
	signal->count = 1;
}

static void row_at_the_end(struct ranks_ctx *ctx, int rank)
{
	int rc = dispatch_told(ctx, rank, change_nothing);

	CHECK(rank == LIAR || rc == 0);
}

static void row_beyond_the_end(struct ranks_ctx *ctx, int rank)
{
	int rc = dispatch_told(ctx, rank, change_offset);

	CHECK(rank == LIAR || rc == -EPROTO);
}

static void last_row_beyond_the_end(struct ranks_ctx *ctx, int rank)
{
	int rc = dispatch_told(ctx, rank, change_stride);

	CHECK(rank == LIAR || rc == -EPROTO);
}

static void misaligned_row(struct ranks_ctx *ctx, int rank)
{
	int rc = dispatch_told(ctx, rank, change_alignment);

	CHECK(rank == LIAR || rc == -EPROTO);
}

TEST(row, that_ends_where_its_mapping_ends_is_taken)
{
	run_one(row_at_the_end, true);
	if (!RANKS_TSAN)
		run_one(row_at_the_end, false);
}

TEST(row, that_ends_beyond_its_mapping_is_refused)
{
	run_one(row_beyond_the_end, true);
	run_one(last_row_beyond_the_end, true);
	if (!RANKS_TSAN) {
		run_one(row_beyond_the_end, false);
		run_one(last_row_beyond_the_end, false);
	}
}

TEST(row, of_bf16_at_an_odd_address_is_refused)
{
	run_one(misaligned_row, true);
}

/* The liar makes the context by hand, and says ready with a status that is no errno. */
static void odd_status(struct ranks_ctx *ctx, int rank)
{
	static const int32_t odd[] = {1, 4096, INT32_MAX, INT32_MIN, -4096};
	struct side s;
	bool ok = side_open(&s, ctx, rank);

	for (uint64_t i = 0; i < sizeof(odd) / sizeof(*odd) && ok; i++) {
		struct accel_ep_opts opts = {
			.size = sizeof(opts), .huge = ACCEL_HUGE_NEVER, .lanes = 1};
		struct {
			int32_t status;
			uint32_t pad;
			uint64_t window, payload, incarnation;
		} ready = {.status = odd[i]}, readies[WORLD];
		struct accel_ep_hello mine = {.role = ACCEL_EP_CREATES};
		int32_t tables[2 * EXPERTS];
		union {
			struct accel_ep_hello hello;
			int32_t tables[2 * EXPERTS];
		} all[WORLD];
		struct accel_ep_local local;

		if (rank == VICTIM) {
			ok = CHECK_EQ(accel_ep_create(s.group, HIDDEN, TOPK, EXPERTS, TOKENS, &opts,
						      &s.ep),
				      -EPROTO);
			continue;
		}
		ok = !accel_ep_params(WORLD, HIDDEN, TOPK, EXPERTS, TOKENS, &opts, &mine.shape,
				      &local, tables, tables + EXPERTS) &&
		     !accel_group_exchange(s.group, NULL, ACCEL_MESSAGE_EP_OPTS, 2 * i + 2, &mine,
					   sizeof(mine), all, LONG_NS) &&
		     !accel_group_exchange(s.group, NULL, ACCEL_MESSAGE_EP_OPTS, 2 * i + 3, tables,
					   sizeof(tables), all, LONG_NS) &&
		     !accel_group_exchange(s.group, NULL, ACCEL_MESSAGE_EP_READY, 2 * i + 2, &ready,
					   sizeof(ready), readies, LONG_NS);
		CHECK(ok);
	}
	ranks_meet(ctx, CLOSED, 1, WORLD);
	side_close(&s);
}

TEST(ready, with_a_status_that_is_no_errno_is_eproto)
{
	run_one(odd_status, true);
}
