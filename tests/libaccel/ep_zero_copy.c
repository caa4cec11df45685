// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Zero copy, proven from outside, over processes: /proc/self/maps says that a received row's
 * address is the sender's memfd, mapped read-only; what the sender writes late is seen through it;
 * and combine reads y where its owner wrote it.
 *
 * check: no-tsan (all its ranks are processes)
 */
#include "exchange.h"
#include "mapping.h"
#include "tap.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORLD = 3, EVENT_TOLD, EVENT_RECEIVED, EVENT_CHANGED, EVENT_SEEN, EVENT_COMBINED };

/* What each rank tells the others about its memory. */
struct told {
	uint64_t device, inode; /* of the memfd that holds x */
	uint64_t x_offset;	/* of x in it */
};

static bool tell(struct exchange *e, struct told *told)
{
	struct stat status;
	uint64_t offset = 0;
	int fd = -1;
	bool ok = CHECK_EQ(accel_buffer_export_fd(e->lane[0].x.buf, &fd, &offset), 0) &&
		  CHECK(!fstat(fd, &status));

	if (ok)
		*told = (struct told){status.st_dev, status.st_ino, offset};
	if (fd >= 0)
		close(fd);
	return ok;
}

/*
 * Own rows are the caller's own mapping; a peer's are its memfd at the very offset, and cannot be
 * written.
 */
static bool rows_are_the_senders(struct exchange *e, const struct told *told)
{
	const struct accel_ep_recv *recv = &e->lane[0].recv;
	const uint64_t row_bytes = e->shape->ref.hidden * 2;
	bool ok = CHECK(recv->rows > 0);

	for (uint32_t i = 0; i < recv->rows && ok; i++) {
		const struct told *sender = &told[recv->src_rank[i]];
		const uint64_t at = sender->x_offset + (uint64_t)recv->src_token[i] * row_bytes;
		struct mapping m;

		ok = CHECK(mapping_of(recv->row[i], &m)) && CHECK_EQ(m.inode, sender->inode) &&
		     CHECK_EQ(m.device, sender->device) &&
		     CHECK_EQ(m.offset + ((uintptr_t)recv->row[i] - m.begin), at);
		if (recv->src_rank[i] != e->rank)
			ok = ok && tap_check(!strncmp(m.rights, "r--s", 4), __FILE__, __LINE__,
					     "a peer's memory is mapped %s", m.rights);
	}
	return ok;
}

/*
 * Every sender flips a bit of all its rows after it has dispatched; every receiver sees it through
 * the row it holds.
 */
static bool late_change_is_seen(struct ranks_ctx *ctx, struct exchange *e)
{
	const struct accel_ep_recv *recv = &e->lane[0].recv;
	const uint32_t hidden = e->shape->ref.hidden;
	volatile uint16_t *x = (uint16_t *)e->lane[0].x.addr;
	bool ok = ranks_meet(ctx, EVENT_RECEIVED, 1, WORLD);

	for (size_t i = 0; i < (size_t)e->lane[0].in[e->rank].tokens * hidden; i++)
		x[i] ^= 1;
	ok = ranks_meet(ctx, EVENT_CHANGED, 1, WORLD) && ok;
	for (uint32_t i = 0; i < recv->rows && ok; i++) {
		const uint16_t *was = e->lane[0].in[recv->src_rank[i]].x +
				      (size_t)recv->src_token[i] * hidden;
		const volatile uint16_t *is = recv->row[i];

		for (uint32_t h = 0; h < hidden && ok; h++)
			ok = CHECK_EQ(is[h], was[h] ^ 1);
	}
	ok = ranks_meet(ctx, EVENT_SEEN, 1, WORLD) && ok;
	for (size_t i = 0; i < (size_t)e->lane[0].in[e->rank].tokens * hidden; i++)
		x[i] ^= 1;
	return ranks_meet(ctx, EVENT_SEEN, 2, WORLD) && ok;
}

/*
 * The y of a rank is read where it lies: after combine_begin each rank halves what is there, and
 * the sums of all peers are of what it wrote late. No byte is staged.
 */
static bool late_result_is_read(struct ranks_ctx *ctx, struct exchange *e)
{
	const uint32_t hidden = e->shape->ref.hidden;
	struct exchange_lane *lane = &e->lane[0];
	volatile uint16_t *y = (uint16_t *)lane->y.addr;
	bool ok = CHECK_EQ(exchange_combine_begin(e, 0), 0) &&
		  ranks_meet(ctx, EVENT_COMBINED, 1, WORLD);

	for (size_t i = 0; i < (size_t)lane->recv.rows * hidden; i++)
		y[i] = 0x3f80; /* 1.0 */
	ok = ranks_meet(ctx, EVENT_COMBINED, 2, WORLD) && ok &&
	     CHECK_EQ(exchange_combine_end(e, 0, -1), 0);
	for (uint32_t t = 0; t < lane->in[e->rank].tokens && ok; t++) {
		float parts = 0;

		for (int d = 0; d < WORLD; d++)
			parts += reference_token_goes(&e->shape->ref, &lane->in[e->rank], t, d);
		for (uint32_t h = 0; h < hidden && ok; h++)
			ok = CHECK_EQ(((uint16_t *)lane->out)[t * hidden + h],
				      reference_bf16(parts));
	}
	return ok;
}

static void in_place(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	struct told *told = ctx->area;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, ctx->arg) && tell(&e, &told[rank]);

	ok = ranks_meet(ctx, EVENT_TOLD, 1, WORLD) && ok &&
	     CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
	     CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0) && rows_are_the_senders(&e, told) &&
	     late_change_is_seen(ctx, &e) && CHECK(exchange_recv_ok(&e, 0)) &&
	     late_result_is_read(ctx, &e);
	if (ok && CHECK_EQ(accel_ep_stats_get(e.ep, &stats), 0)) {
		CHECK_EQ(stats.bytes_staged + stats.bytes_landed + stats.bytes_wire +
				 stats.bytes_quantised,
			 0);
		CHECK(stats.maps >= WORLD - 1);
	}
	exchange_close(&e);
}

static void run(bool fp8, enum exchange_place y_place,
		void (*body)(struct ranks_ctx *ctx, int rank))
{
	struct exchange_shape shape;
	struct ranks_opts opts = {
		.world = WORLD, .arg = &shape, .area_bytes = WORLD * sizeof(struct told)};

	exchange_shape_plain(&shape, tap_seed(), WORLD);
	shape.ref.full = true;
	shape.ref.fp8 = fp8;
	shape.y_place = y_place;
	ranks_run(&opts, body);
}

TEST_OF_PROCESSES(zero_copy, rows_and_results_are_read_where_their_owner_wrote_them)
{
	run(false, EXCHANGE_BUFFER, in_place);
}

/*
 * FP8 is written once, by the quantiser, into the sender's window: codes and scales both lie there.
 */
static void in_window(struct ranks_ctx *ctx, int rank)
{
	struct accel_ep_stats stats = {.size = sizeof(stats)};
	uint64_t inode_of[WORLD] = {0};
	const struct accel_ep_recv *recv;
	struct mapping m, scale;
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, ctx->arg) &&
		  CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		  CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0);

	recv = &e.lane[0].recv;
	for (uint32_t i = 0; i < recv->rows && ok; i++) {
		const int src = recv->src_rank[i];

		ok = CHECK(mapping_of(recv->row[i], &m)) &&
		     CHECK(mapping_of(recv->scale[i], &scale)) &&
		     CHECK(m.inode && m.inode == scale.inode) && CHECK(strstr(m.path, "memfd:")) &&
		     CHECK(!inode_of[src] || inode_of[src] == m.inode);
		inode_of[src] = m.inode;
		if (src != rank)
			ok = ok && CHECK(!strncmp(m.rights, "r--s", 4)) &&
			     CHECK(!strncmp(scale.rights, "r--s", 4));
	}
	for (int i = 0; i < WORLD && ok; i++)
		for (int j = 0; j < i; j++)
			CHECK(!inode_of[i] || inode_of[i] != inode_of[j]);
	ok = ok && CHECK(exchange_recv_ok(&e, 0)) && CHECK_EQ(exchange_combine_begin(&e, 0), 0) &&
	     CHECK_EQ(exchange_combine_end(&e, 0, -1), 0) && CHECK(exchange_out_ok(&e, 0)) &&
	     CHECK_EQ(accel_ep_stats_get(e.ep, &stats), 0) && CHECK_EQ(stats.bytes_staged, 0) &&
	     CHECK_EQ(stats.bytes_landed, 0) &&
	     CHECK_EQ(stats.bytes_quantised,
		      e.lane[0].in[rank].tokens * (e.shape->ref.hidden + 4ull * 2));
	exchange_close(&e);
}

TEST_OF_PROCESSES(zero_copy, fp8_rows_lie_in_the_senders_window)
{
	run(true, EXCHANGE_OUTPUT, in_window);
}

/* A receiver that tries to write into a sender's row is stopped by its own page table. */
static sigjmp_buf no_write;

static void on_fault(int signo)
{
	siglongjmp(no_write, signo);
}

static void write_into_a_row(struct ranks_ctx *ctx, int rank)
{
	const struct sigaction action = {.sa_handler = on_fault};
	struct exchange e;
	bool ok = exchange_open(&e, ctx, rank, 0, ctx->arg) &&
		  CHECK_EQ(exchange_dispatch_begin(&e, 0), 0) &&
		  CHECK_EQ(exchange_dispatch_end(&e, 0, -1), 0);

	sigaction(SIGSEGV, &action, NULL);
	for (uint32_t i = 0; i < e.lane[0].recv.rows && ok; i++) {
		if (e.lane[0].recv.src_rank[i] == rank)
			continue;
		if (!sigsetjmp(no_write, 1)) {
			*(volatile uint16_t *)(uintptr_t)e.lane[0].recv.row[i] = 0;
			ok = CHECK(!"a peer's row was written");
		}
	}
	signal(SIGSEGV, SIG_DFL);
	ranks_meet(ctx, EVENT_SEEN, 1, WORLD);
	if (ok)
		CHECK(exchange_recv_ok(&e, 0));
	exchange_close(&e);
}

TEST_OF_PROCESSES(zero_copy, peers_cannot_write_each_others_rows)
{
	run(false, EXCHANGE_BUFFER, write_into_a_row);
}
