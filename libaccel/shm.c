// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The shm transport: peers of one host map this rank's window and payload read-only and load rows
 * where they lie. Nothing is ever written into another rank's memory; the ordering is order.h's.
 *
 * A window begins with its board, one writer (the owner), many readers:
 *
 *     0                    struct board_head                                    64 B
 *     64 + p * block       for peer p: struct board_peer                        64 B
 *                          then [lanes][2] struct board_line                    64 B each, a cache line a signal
 *
 * The line for peer p, lane l, way w holds the last signal sent there. It may be overwritten by the
 * next round's: that round begins only when this rank has ended the combine before, so p has read
 * it (DISPATCH: p's combine proves it; COMBINE: p's next dispatch, which this rank has waited for,
 * proves it).
 *
 * admits of the block for peer p says which incarnation of p may read this rank's memory. p itself
 * learns it in connect(), before it begins a round, and after every sum it asks: is this still me?
 * The owner changes the word before it reuses what p might be reading, and it never holds an
 * incarnation again that it has let go of (they are random): whatever a reader missed in between, it
 * cannot find its own.
 *
 * A rank that joins is met by connect() once more. Why that is safe while the old process of that rank
 * may still live, stopped somewhere in a sum over this rank's memory: it is masked before it is met, so
 * the word has gone from its incarnation to none and then to the new one, and whenever it wakes, its
 * question is answered no. It may find signals here that are the new one's, and read what they say: it
 * asks before it believes. What it writes, it writes into its own window, which nobody here looks at
 * any more. And the new one cannot take an old signal for its own: lanes are idle at round n when it
 * is met, so lines here hold rounds up to n, and it waits for n + 1 first; its own window is new, and
 * zero. done starts at n on its board: of what was handed over before it has nothing left to read.
 */
#include "ep.h"
#include "order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BOARD_MAGIC UINT64_C(0x3144524143434141) /* "AACCARD1" */
#define GOODBYE_NS_MAX INT64_C(1000000000)
#define GOODBYE_SLICE_NS INT64_C(1000000)
#define REG_SLICE_NS INT64_C(4000000)

struct board_head {
	uint64_t magic;
	uint64_t incarnation;
	uint32_t world, lanes;
	_Atomic uint32_t left;
	uint32_t pad;
	_Atomic uint32_t done[ACCEL_LANES_MAX]; /* last round whose results this rank has read */
	uint64_t pad1[2];
};

struct board_peer {
	/* The incarnation of the peer that may read here, + ACCEL_ADMITS_LEFT, or ACCEL_ADMITS_NONE. */
	_Atomic uint64_t admits;
	_Atomic uint32_t asleep; /* threads of the owner that sleep until the peer signals */
	uint32_t pad[13];
};

struct board_line {
	struct accel_signal signal;
	_Atomic uint32_t round; /* low half of the round; the futex */
	uint32_t pad;
};

_Static_assert(sizeof(struct board_head) == 64, "a cache line");
_Static_assert(sizeof(struct board_peer) == 64, "a cache line");
_Static_assert(sizeof(struct board_line) == 64, "a cache line");

struct shm_peer {
	struct accel_region *window, *payload;
	struct board_head *board; /* read-only, the peer's */
	_Atomic uint32_t closed;
};

struct shm {
	struct accel_transport base;
	struct board_head *board; /* own */
	uint32_t lanes;
	int rank, world;
	struct shm_peer peer[];
};

static struct shm *shm_of(struct accel_transport *transport)
{
	return (struct shm *)transport;
}

static size_t block_bytes(uint32_t lanes)
{
	return sizeof(struct board_peer) + (size_t)lanes * ACCEL_WAYS * sizeof(struct board_line);
}

size_t accel_board_bytes(int world, uint32_t lanes)
{
	return (sizeof(struct board_head) + (size_t)world * block_bytes(lanes) + 4095) &
	       ~(size_t)4095;
}

static struct board_peer *board_peer(struct board_head *board, uint32_t lanes, int peer)
{
	return (void *)((uint8_t *)(board + 1) + (size_t)peer * block_bytes(lanes));
}

static struct board_line *board_line(struct board_head *board, uint32_t lanes, int peer,
				     uint32_t lane, enum accel_way way)
{
	return (struct board_line *)(board_peer(board, lanes, peer) + 1) + lane * ACCEL_WAYS + way;
}

static int shm_open(struct accel_ep *ep, struct accel_transport **transport)
{
	int world = ep->group->world;
	struct shm *t = calloc(1, sizeof(*t) + (size_t)world * sizeof(*t->peer));

	if (!t)
		return accel_fail(NULL, -ENOMEM, NULL, "no memory for the state of %d peers",
				  world);
	t->base = (struct accel_transport){&accel_shm_ops, ep};
	t->lanes = ep->shape.lanes;
	t->rank = ep->group->rank;
	t->world = world;
	t->board = (struct board_head *)ep->window->addr;
	t->board->magic = BOARD_MAGIC;
	t->board->incarnation = ep->incarnation;
	t->board->world = (uint32_t)world;
	t->board->lanes = t->lanes;
	*transport = &t->base;
	return 0;
}

static int shm_reach(struct accel_transport *base, int peer, uint64_t region,
		     struct accel_region **mapped)
{
	struct shm *t = shm_of(base);
	const struct shm_peer *p = &t->peer[peer];
	int rc;

	/* These are held until the end, also when the peer has taken them back meanwhile. */
	if (p->payload && p->payload->id == region) {
		*mapped = accel_region_get(p->payload);
		return 0;
	}
	if (p->window && p->window->id == region) {
		*mapped = accel_region_get(p->window);
		return 0;
	}
	rc = accel_channel_region(t->base.ep->group->channel[peer], region, mapped);
	if ((rc == -ENOENT || rc == -ECONNRESET) && p->board && accel_load_acquire(&p->board->left))
		return -ESHUTDOWN;
	return rc;
}

static void shm_disconnect(struct shm_peer *p)
{
	accel_region_put(p->payload);
	accel_region_put(p->window);
	p->payload = NULL;
	p->window = NULL;
	p->board = NULL;
}

static int shm_connect(struct accel_transport *base, int peer, uint64_t window_id,
		       uint64_t payload_id, uint64_t incarnation)
{
	struct shm *t = shm_of(base);
	const struct accel_failure where = {peer, ACCEL_PHASE_CREATE, -1, 0, NULL};
	struct accel_region *window = NULL, *payload = NULL;
	struct shm_peer *p = &t->peer[peer];
	struct board_head *board;
	int rc;

	shm_disconnect(p); /* one that joins: its old regions may have had these very ids */
	rc = shm_reach(base, peer, window_id, &window);
	if (!rc)
		rc = shm_reach(base, peer, payload_id, &payload);
	if (rc) {
		accel_region_put(window);
		return accel_fail(NULL, rc == -ENOENT ? -EPROTO : rc, &where,
				  "rank %d's %s cannot be mapped", peer,
				  window ? "payload" : "window");
	}
	board = (struct board_head *)window->addr;
	if (window->bytes < accel_board_bytes(t->world, t->lanes) || board->magic != BOARD_MAGIC ||
	    incarnation < ACCEL_INCARNATION_MIN || incarnation % 2 ||
	    board->incarnation != incarnation || board->world != (uint32_t)t->world ||
	    board->lanes != t->lanes) {
		accel_region_put(payload);
		accel_region_put(window);
		return accel_fail(NULL, -EPROTO, &where,
				  "rank %d's window does not begin with the board it announced",
				  peer);
	}
	p->window = window;
	p->payload = payload;
	p->board = board;
	accel_store_release(&p->closed, 0);
	accel_store_release_64(&board_peer(t->board, t->lanes, peer)->admits, incarnation);
	return 0;
}

static int shm_reg(struct accel_transport *base, int peer, struct accel_region *region)
{
	struct shm *t = shm_of(base);
	int64_t left_ns = t->base.ep->local.timeout_ns;
	int rc;

	/* A slice at a time, so that an abort or a mask by another thread is seen. */
	for (;; left_ns -= REG_SLICE_NS) {
		rc = accel_channel_share(t->base.ep->group->channel[peer], region,
					 left_ns < REG_SLICE_NS ? left_ns : REG_SLICE_NS);
		if (rc != -ETIMEDOUT || left_ns <= REG_SLICE_NS)
			return rc;
		if (atomic_load_explicit(&t->base.ep->aborted, memory_order_acquire))
			return -ECANCELED;
		if (accel_load_acquire(&t->peer[peer].closed))
			return 0;
	}
}

/* Other transports may reach other peers. */
static bool is_ours(const struct shm *t, int peer)
{
	return t->base.ep->peers[peer].transport == &t->base;
}

static void shm_dereg(struct accel_transport *base, struct accel_region *region)
{
	struct shm *t = shm_of(base);
	for (int p = 0; p < t->world; p++)
		if (is_ours(t, p) && t->base.ep->group->channel[p])
			accel_channel_unshare(t->base.ep->group->channel[p], region->id);
}

static void wake(struct shm *t, int peer, const _Atomic uint32_t *word)
{
	const struct board_peer *theirs = board_peer(t->peer[peer].board, t->lanes, t->rank);

	if (atomic_load(&theirs->asleep))
		accel_futex_wake(word);
}

static int shm_send(struct accel_transport *base, int peer, uint32_t lane, enum accel_way way,
		    uint32_t round, const struct accel_signal *signal)
{
	struct shm *t = shm_of(base);
	struct board_line *line;

	if (way == ACCEL_WAY_DONE) {
		accel_store_release(&t->board->done[lane], round);
		return 0;
	}
	line = board_line(t->board, t->lanes, peer, lane, way);
	line->signal = *signal;
	atomic_exchange(&line->round, round);
	wake(t, peer, &line->round);
	return 0;
}

/*
 * Sleep on the peer's line until its round changes; the slice bounds how late a mask, an abort or a
 * death is seen.
 */
static void sleep_on(struct shm *t, int peer, const _Atomic uint32_t *word, uint32_t round,
		     int64_t ns)
{
	struct board_peer *own = board_peer(t->board, t->lanes, peer);
	uint32_t seen;

	atomic_fetch_add(&own->asleep, 1);
	seen = atomic_load(word);
	if (seen != round)
		accel_futex_wait(word, seen, ns);
	atomic_fetch_sub(&own->asleep, 1);
}

/* What the peer's board says to this rank. */
static uint64_t own_admits(const struct shm *t, int peer)
{
	return accel_load_acquire_64(&board_peer(t->board, t->lanes, peer)->admits);
}

static uint64_t admits(const struct shm *t, int peer)
{
	return accel_load_acquire_64(&board_peer(t->peer[peer].board, t->lanes, t->rank)->admits);
}

/*
 * left is loaded before round: a peer signals, then leaves, so a signal is never missed in favour
 * of a goodbye.
 */
static int look(struct shm *t, int peer, const struct board_line *line, uint32_t lane,
		uint32_t round, struct accel_signal *signal)
{
	struct board_head *board = t->peer[peer].board;
	bool left = accel_load_acquire(&board->left);
	uint64_t admitted;

	if (accel_load_acquire(&line->round) == round) {
		*signal = line->signal;
		return 1;
	}
	admitted = admits(t, peer);
	if (admitted != t->base.ep->incarnation &&
	    admitted != t->base.ep->incarnation + ACCEL_ADMITS_LEFT)
		return -ESTALE;
	if (!left)
		return 0;
	signal->meta = accel_load_acquire(
		&board_line(board, t->lanes, t->rank, lane, ACCEL_WAY_DISPATCH)->round);
	return -ESHUTDOWN;
}

static int shm_poll(struct accel_transport *base, int peer, uint32_t lane, enum accel_way way,
		    uint32_t round, int64_t sleep_ns, struct accel_signal *signal)
{
	struct shm *t = shm_of(base);
	struct board_head *board = t->peer[peer].board;
	const struct board_line *line;
	int rc, said;

	if (way == ACCEL_WAY_DONE) {
		uint64_t admitted;

		accel_fence();
		admitted = admits(t, peer);
		if (admitted == t->base.ep->incarnation)
			return 0;
		return admitted == t->base.ep->incarnation + ACCEL_ADMITS_LEFT ? -ESHUTDOWN
									       : -ESTALE;
	}
	line = board_line(board, t->lanes, t->rank, lane, way);
	rc = look(t, peer, line, lane, round, signal);
	if (rc || !sleep_ns)
		return rc;
	if (sleep_ns > 0) {
		sleep_on(t, peer, &line->round, round, sleep_ns);
		rc = look(t, peer, line, lane, round, signal);
		if (rc)
			return rc;
	}
	rc = accel_channel_drain(t->base.ep->group->channel[peer]);
	if (!rc)
		return 0;
	/* What it signalled, or said, before its socket ended still counts. */
	said = look(t, peer, line, lane, round, signal);
	return said ? said : rc;
}

/* A peer that is neither this rank nor masked nor away. */
static bool is_met(const struct shm *t, int peer)
{
	return peer != t->rank && t->peer[peer].board && !accel_load_acquire(&t->peer[peer].closed);
}

/* May a peer still be reading what this rank handed to combine? */
static bool is_read_by(struct shm *t, int peer)
{
	struct board_head *board = t->peer[peer].board;

	if (!is_met(t, peer) || accel_load_acquire(&board->left) ||
	    admits(t, peer) != t->base.ep->incarnation)
		return false;
	for (uint32_t lane = 0; lane < t->lanes; lane++) {
		uint32_t sent = (uint32_t)t->base.ep->lane[lane].combined;

		if (sent && accel_load_acquire(&board->done[lane]) != sent)
			return !accel_channel_drain(t->base.ep->group->channel[peer]);
	}
	return false;
}

/* Has this rank handed out rows of a round of which nobody can say any more that they were read? */
static bool is_round_open(const struct shm *t)
{
	for (uint32_t lane = 0; lane < t->lanes; lane++)
		if (t->base.ep->lane[lane].phase == ACCEL_LANE_DISPATCHING ||
		    t->base.ep->lane[lane].phase == ACCEL_LANE_RECEIVED)
			return true;
	return false;
}

static void fence_off(struct shm *t, int peer, uint64_t admitted)
{
	accel_store_release_64(&board_peer(t->board, t->lanes, peer)->admits, admitted);
	accel_fence();
	accel_store_release(&t->peer[peer].closed, 1);
}

static void say_goodbye(struct shm *t)
{
	int64_t deadline = accel_now_ns() + GOODBYE_NS_MAX;

	accel_store_release(&t->board->left, 1);
	for (int p = 0; p < t->world; p++) {
		if (!is_met(t, p))
			continue;
		for (uint32_t i = 0; i < t->lanes * ACCEL_WAYS; i++)
			wake(t, p,
			     &board_line(t->board, t->lanes, p, i / ACCEL_WAYS, i % ACCEL_WAYS)
				      ->round);
	}
	for (int p = 0; p < t->world; p++) {
		while (is_read_by(t, p) && accel_now_ns() < deadline)
			accel_futex_wait(&t->peer[p].board->left, 0, GOODBYE_SLICE_NS);
		/* Too slow: what it reads from now on may be anything, and it must know. */
		if (is_read_by(t, p) || (is_met(t, p) && is_round_open(t)))
			fence_off(t, p, own_admits(t, p) + ACCEL_ADMITS_LEFT);
	}
}

static void shm_close(struct accel_transport *base, int peer)
{
	struct shm *t = shm_of(base);
	if (peer >= 0) {
		fence_off(t, peer, ACCEL_ADMITS_NONE);
		return;
	}
	if (!accel_object_is_inherited(&t->base.ep->obj)) {
		shm_dereg(base, t->base.ep->payload);
		shm_dereg(base, t->base.ep->window);
		say_goodbye(t);
	}
	for (int p = 0; p < t->world; p++)
		shm_disconnect(&t->peer[p]);
	free(t);
}

const struct accel_transport_ops accel_shm_ops = {
	.name = "shm",
	.open = shm_open,
	.connect = shm_connect,
	.reg = shm_reg,
	.dereg = shm_dereg,
	.reach = shm_reach,
	.send = shm_send,
	.poll = shm_poll,
	.close = shm_close,
};
