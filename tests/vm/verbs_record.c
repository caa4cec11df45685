// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Zero copy over NICs, proven from outside: tests/verbs/record.c, between libaccel and libibverbs, writes
 * every request down. Each request writes whole rows of the slice that this rank has at a peer, and
 * gathers them out of the caller's tensors alone: of x and its scales what lands there, of y what
 * returns; or it writes the rank's inbox there, out of the window, where the context has its lines and
 * records. This rank makes no row itself in these shapes, and pads none: what it staged would be
 * seen. A dispatch takes no more requests than its rows need.
 *
 * SEED repeats a run.  check: guest --nodes 2 --memory 1536
 */
#include "ep_slice.h"
#include "exchange.h"
#include "fabric.h"
#include "tap.h"
#include "verbs_loop.h"

#include <infiniband/verbs.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORLD = 4, ROUNDS = 2, EVENT_TOLD = 0 };

/* Memory that is gone through in steps of step bytes. */
struct span {
	uint64_t begin, bytes, step;
};

/* What a rank tells the others: where each of them may write. */
struct told {
	struct span inbox[WORLD], landed[WORLD], returned;
};

/* Where a rank may send from. */
struct sources {
	struct span x, scales, y, window;
};

static struct span span_of(const void *begin, uint64_t bytes, uint64_t step)
{
	return (struct span){(uintptr_t)begin, bytes, step};
}

/* Is it some steps of the span? */
static bool lies_in(uint64_t addr, uint64_t bytes, struct span span)
{
	const uint64_t offset = addr - span.begin;

	return addr >= span.begin && offset <= span.bytes && bytes <= span.bytes - offset &&
	       !(offset % span.step) && !(bytes % span.step);
}

static void tell(const struct exchange *e, struct told *told)
{
	const struct accel_ep *ep = e->ep;
	const struct accel_ep_layout *l = &ep->layout;
	const uint64_t result_bytes = 2 * (uint64_t)ep->shape.hidden;

	for (int p = 0; p < WORLD; p++) {
		if (p == e->rank)
			continue;
		told->inbox[p] = span_of(accel_ep_inbox(ep, 0, (uint32_t)ep->peers[p].remote),
					 l->inbox_bytes, 1);
		told->landed[p] = span_of(accel_ep_landed(ep, 0, p),
					  (uint64_t)ep->shape.tokens_max * l->row_bytes,
					  l->row_bytes);
	}
	told->returned = span_of(accel_ep_returned(ep, 0), l->sends_max * result_bytes,
				 result_bytes);
}

static struct sources sources_of(const struct exchange *e)
{
	const struct exchange_lane *lane = &e->lane[0];
	const struct reference_shape *ref = &e->shape->ref;
	const uint64_t row_bytes = ref->hidden * (ref->fp8 ? 1u : 2u),
		       x_bytes = ref->tokens_max * row_bytes,
		       scale_bytes = ref->fp8 ? 4 * reference_blocks(ref) : 1;

	return (struct sources){
		.x = span_of(lane->x.addr, x_bytes, row_bytes),
		.scales = span_of(lane->x.addr + x_bytes,
				  ref->fp8 ? ref->tokens_max * scale_bytes : 0, scale_bytes),
		.y = span_of(lane->y.addr, lane->y.bytes, 2 * ref->hidden),
		.window = span_of(e->ep->window->addr, e->ep->window->bytes, 1),
	};
}

/* What a request may write at a peer: bits, since addresses of one process may be another's too. */
enum { INBOX = 1, LANDED = 2, RETURNED = 4 };

static bool comes_from(const struct sources *from, unsigned to, uint64_t addr, uint64_t bytes)
{
	return (to & INBOX && lies_in(addr, bytes, from->window)) ||
	       (to & LANDED &&
		(lies_in(addr, bytes, from->x) || lies_in(addr, bytes, from->scales))) ||
	       (to & RETURNED && lies_in(addr, bytes, from->y));
}

/* A line goes to an inbox, and nothing else does: records of so few rows, and a goodbye, are with it. */
static unsigned goes_to(const struct told *told, int rank, uint32_t opcode, uint64_t addr,
			uint64_t bytes)
{
	unsigned to = 0;

	for (int p = 0; p < WORLD; p++) {
		if (p == rank)
			continue;
		to |= lies_in(addr, bytes, told[p].inbox[rank]) ? INBOX : 0;
		to |= lies_in(addr, bytes, told[p].landed[rank]) ? LANDED : 0;
		to |= lies_in(addr, bytes, told[p].returned) ? RETURNED : 0;
	}
	return opcode == IBV_WR_RDMA_WRITE_WITH_IMM ? to & INBOX
	       : opcode == IBV_WR_RDMA_WRITE	    ? to & (LANDED | RETURNED)
						    : 0;
}

/* One line of the record, if it is a request: its gather entries, and where it writes. */
static bool request_ok(const char *line, const struct sources *from, const struct told *told,
		       int rank, uint64_t *requests)
{
	uint64_t remote, bytes, addr;
	uint32_t opcode, length;
	unsigned to;
	int entries, used;
	bool ok;

	if (sscanf(line, "wr %*x %x %*x %*x %" SCNx64 " %*x %" SCNx64 " %d%n", &opcode, &remote,
		   &bytes, &entries, &used) != 4)
		return true;
	++*requests;
	to = goes_to(told, rank, opcode, remote, bytes);
	ok = CHECK(to);
	for (const char *at = line + used; ok && entries--; at += used)
		ok = CHECK_EQ(sscanf(at, " %" SCNx64 ":%x:%*x%n", &addr, &length, &used), 2) &&
		     CHECK(comes_from(from, to, addr, length));
	if (!ok)
		tap_diag("rank %d: %s", rank, line);
	return ok;
}

static void check_record(const char *path, const struct sources *from, const struct told *told,
			 int rank, uint64_t requests_min)
{
	FILE *record = fopen(path, "re");
	uint64_t requests = 0;
	char line[4096];

	if (!CHECK(record))
		return;
	while (fgets(line, sizeof(line), record) && request_ok(line, from, told, rank, &requests))
		;
	fclose(record);
	CHECK(requests >= requests_min);
}

/* A round, whose dispatch has posted no more than it may. */
static bool counted_round(struct exchange *e)
{
	struct accel_ep_stats before = {.size = sizeof(before)}, after = {.size = sizeof(after)};
	const struct reference_shape *ref = &e->shape->ref;
	uint64_t requests_max = 0;

	if (!CHECK_EQ(accel_ep_stats_get(e->ep, &before), 0) ||
	    !CHECK_EQ(exchange_dispatch_begin(e, 0), 0) ||
	    !CHECK_EQ(exchange_dispatch_end(e, 0, -1), 0) ||
	    !CHECK_EQ(accel_ep_stats_get(e->ep, &after), 0) || !CHECK(exchange_recv_ok(e, 0)))
		return false;
	for (int p = 0; p < ref->world; p++) {
		const struct reference_input *in = &e->lane[0].in[e->rank];
		uint32_t rows = 0;

		for (uint32_t t = 0; t < in->tokens; t++)
			rows += reference_token_goes(ref, in, t, p);
		requests_max += p == e->rank ? 0 : rows / 8 + 4;
	}
	tap_diag("rank %d: %" PRIu64 " requests, at most %" PRIu64, e->rank,
		 after.work_requests - before.work_requests, requests_max);
	return CHECK(after.work_requests - before.work_requests <= requests_max) &&
	       CHECK_EQ(exchange_combine_begin(e, 0), 0) &&
	       CHECK_EQ(exchange_combine_end(e, 0, -1), 0) && CHECK(exchange_out_ok(e, 0));
}

static void recorded(struct ranks_ctx *ctx, int rank)
{
	struct told *told = ctx->area;
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	struct sources from;
	struct exchange e;
	char opts[512], path[64];
	bool ok;

	snprintf(opts, sizeof(opts), FABRIC_PATIENT ",verbs.library=%s", verbs_record_path());
	fabric_opts(rank + 1, "verbs", opts);
	setenv("RECORD_FILE", "/tmp/verbs-record", true);
	snprintf(path, sizeof(path), "/tmp/verbs-record.%d", (int)getpid());
	ok = exchange_open(&e, ctx, rank, 0, ctx->arg);
	if (ok) {
		from = sources_of(&e);
		tell(&e, &told[rank]);
	}
	ok = ranks_meet(ctx, EVENT_TOLD, 1, WORLD) && ok;
	for (int round = 0; round < ROUNDS && ok; round++)
		ok = counted_round(&e);
	if (ok) {
		exchange_stats_check(&e);
		CHECK_EQ(accel_ep_stats_get(e.ep, &stats), 0);
		CHECK_EQ(stats.bytes_staged, 0);
		check_record(path, &from, told, rank, stats.work_requests);
	}
	exchange_close(&e);
	unlink(path);
}

static void record(bool codes_given)
{
	struct exchange_shape shape;
	const struct ranks_opts opts = {.world = WORLD,
					.limit_s = 100,
					.area_bytes = WORLD * sizeof(struct told),
					.arg = &shape};

	if (!fabric_wire("wire_up 4 && wire_mtu 9000"))
		return;
	exchange_shape_r1(&shape, tap_seed(), WORLD, 24);
	shape.host_ranks = 1;
	shape.ref.fp8 = shape.ref.codes_given = codes_given;
	if (!ranks_run(&opts, recorded) || tap_failing())
		exchange_shape_print(&shape);
}

TEST(every_request, moves_bf16_rows_between_tensors_and_slots)
{
	record(false);
}

TEST(every_request, moves_codes_and_scales_between_tensors_and_slots)
{
	record(true);
}
