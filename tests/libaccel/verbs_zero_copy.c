// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * No row is copied before a NIC takes it: every work request that an exchange posts, as
 * libaccel-verbs-record.so has written it down, gathers rows out of the caller's tensors (or those
 * that this rank has made: quantised rows, sums) and lands them in row slots of the peer; lines and
 * records go from window to inbox.
 */
#define _GNU_SOURCE
#include "ep_slice.h"
#include "nics.h"
#include "tap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RANGES_MAX = 256, ENTRIES_MAX = 16, ROUNDS = 3, PADDING_MAX = 15 };

enum kind { TENSOR, PAYLOAD, WINDOW, INBOX, LANDED, RETURNED, KINDS };

struct range {
	enum kind kind;
	uint64_t begin, end, pitch; /* pitch: of its slots; 0: it has none */
};

static struct range ranges[RANGES_MAX];
static _Atomic unsigned range_count;

static void know(enum kind kind, const void *addr, uint64_t bytes, uint64_t pitch)
{
	const uint64_t begin = (uintptr_t)addr;

	ranges[range_count++] = (struct range){kind, begin, begin + bytes, pitch};
}

/* The range that all of it lies in, of a slotted one from slot to slot; NULL: there is none. */
static const struct range *range_of(unsigned kinds, uint64_t begin, uint64_t bytes)
{
	for (unsigned i = 0; i < range_count; i++) {
		const struct range *r = &ranges[i];

		if (kinds >> r->kind & 1 && begin >= r->begin && begin < r->end &&
		    bytes <= r->end - begin &&
		    (!r->pitch || ((begin - r->begin) % r->pitch == 0 && bytes % r->pitch == 0)))
			return r;
	}
	return NULL;
}

static void know_lane(const struct exchange *e, uint32_t l)
{
	const struct accel_ep *ep = e->ep;
	const struct accel_ep_layout *layout = &ep->layout;
	const struct exchange_lane *lane = &e->lane[l];
	const uint64_t result_bytes = ep->shape.hidden * 2u;

	know(TENSOR, lane->x.addr, lane->x.bytes, 0);
	know(TENSOR, lane->y.addr, lane->y.bytes, 0);
	know(RETURNED, accel_ep_returned(ep, l), layout->sends_max * result_bytes, result_bytes);
	for (int p = 0; p < ep->group->world; p++) {
		const int32_t remote = ep->peers[p].remote;

		if (remote < 0)
			continue;
		know(LANDED, accel_ep_landed(ep, l, p),
		     (uint64_t)ep->shape.tokens_max * layout->row_bytes, layout->row_bytes);
		know(INBOX, accel_ep_inbox(ep, l, (uint32_t)remote), layout->inbox_bytes, 0);
	}
}

static void run_recorded(struct ranks_ctx *ctx, int rank)
{
	const struct nics *n = ctx->arg;
	struct exchange e;
	bool ok = nics_open(&e, ctx, rank, 0);

	if (ok) {
		know(WINDOW, e.ep->window->addr, e.ep->window->bytes, 0);
		know(PAYLOAD, e.ep->payload->addr, e.ep->payload->bytes, 0);
	}
	for (uint32_t l = 0; ok && l < n->shape.lanes; l++)
		know_lane(&e, l);
	for (int round = 0; round < ROUNDS && ok; round++)
		for (uint32_t l = 0; l < n->shape.lanes && ok; l++)
			ok = CHECK(exchange_round(&e, l));
	exchange_close(&e);
}

/* What gathered rows may come from: of a bf16 RANK exchange the caller's tensors alone. */
static unsigned sources(const struct exchange_shape *shape)
{
	const bool made = (shape->ref.fp8 && !shape->ref.codes_given) ||
			  shape->combine_input == ACCEL_COMBINE_EXPERT;

	return 1u << TENSOR | (made ? 1u << PAYLOAD : 0);
}

/* Rows come out of those; the zeroes behind one whose size is no multiple of 16 are the window's. */
static bool row_part_ok(const struct exchange_shape *shape, uint64_t addr, uint32_t bytes)
{
	return range_of(sources(shape), addr, bytes) ||
	       (shape->ref.codes_given && bytes <= PADDING_MAX &&
		range_of(1u << WINDOW, addr, bytes));
}

/* One line "wr QP OPCODE FLAGS IMM REMOTE RKEY BYTES ENTRIES ADDR:BYTES:LKEY ..." */
static bool request_ok(const struct exchange_shape *shape, const char *line, unsigned seen[KINDS])
{
	uint64_t remote, bytes, addr;
	const struct range *to;
	unsigned opcode, length;
	int entries, at = 0, n;

	if (sscanf(line, "wr %*x %x %*x %*x %" SCNx64 " %*x %" SCNx64 " %d%n", &opcode, &remote,
		   &bytes, &entries, &at) != 4 ||
	    entries > ENTRIES_MAX)
		return false;
	to = range_of(1u << INBOX | 1u << LANDED | 1u << RETURNED, remote, bytes);
	if (!to || (opcode == IBV_WR_RDMA_WRITE_WITH_IMM && to->kind != INBOX))
		return false;
	seen[to->kind]++;
	for (; entries; entries--, at += n) {
		if (sscanf(line + at, " %" SCNx64 ":%x:%*x%n", &addr, &length, &n) != 2 ||
		    !(to->kind == INBOX ? range_of(1u << WINDOW, addr, length) != NULL
					: row_part_ok(shape, addr, length)))
			return false;
	}
	return true;
}

static void check_record(const struct exchange_shape *shape, const char *path, long *from)
{
	unsigned seen[KINDS] = {0};
	char line[4096];
	FILE *f = fopen(path, "re");

	REQUIRE(f);
	fseek(f, *from, SEEK_SET);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "wr ", 3) &&
		    !tap_check(request_ok(shape, line, seen), __FILE__, __LINE__,
			       "a request beyond tensors and slots: %s", line))
			break;
	*from = ftell(f);
	fclose(f);
	CHECK(seen[INBOX] > 0);
	CHECK(seen[LANDED] > 0);
	CHECK(seen[RETURNED] > 0);
}

TEST(zero_copy, nics_gather_out_of_tensors_into_row_slots)
{
	char base[] = "/tmp/accel-zero-copy-XXXXXX", path[64];
	const int fd = mkstemp(base);
	long from = 0;

	REQUIRE(fd >= 0);
	setenv("RECORD_LIBRARY", verbs_loop_path(), 1);
	setenv("RECORD_FILE", base, 1);
	snprintf(path, sizeof(path), "%s.%d", base, (int)getpid());
	for (unsigned bits = 0; bits < 12 && !tap_failing(); bits++) {
		struct nics n = {.library = verbs_record_path(), .shm_ranks = bits % 2 ? 2 : 0};

		exchange_shape_plain(&n.shape, tap_seed() + bits, 3);
		n.shape.ref.full = true;
		n.shape.ref.fp8 = bits % 3;
		n.shape.ref.codes_given = bits % 3 == 2;
		n.shape.pad_bytes = bits % 4 == 3 ? 32 : 0;
		n.shape.receive = bits & 2 ? ACCEL_RECEIVE_LANDED : ACCEL_RECEIVE_IN_PLACE;
		n.shape.combine_input = bits & 4 ? ACCEL_COMBINE_EXPERT : ACCEL_COMBINE_RANK;
		range_count = 0;
		if (nics_run(&n, 0, run_recorded))
			check_record(&n.shape, path, &from);
	}
	close(fd);
	unlink(base);
	unlink(path);
}
