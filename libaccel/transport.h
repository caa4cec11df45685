/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What the EP protocol asks of a way to reach a peer: eight calls. The protocol above is the same for
 * all: data, then a signal that counts it. A group decides for each pair of ranks which one it takes,
 * so one context may use several at a time.
 *
 * The difference shows in one place. shm lets the peer map this rank's memory: its reach() gives an
 * address where the peer's rows are read as they lie. A NIC lands what a peer sends in this rank's own
 * memory (ops->lands): send() moves the rows, their records and the signal, and once poll() has
 * returned 1 they are in the slices of ep_slice.h, where nobody needs reach().
 */
#ifndef ACCEL_TRANSPORT_H
#define ACCEL_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct accel_ep;
struct accel_region;
struct accel_transport_ops;

/* What each transport's own state begins with. */
struct accel_transport {
	const struct accel_transport_ops *ops;
	struct accel_ep *ep;
};

#define ACCEL_TROUBLE_BYTES 192 /* of a sentence about a path that is broken */

enum accel_way {
	ACCEL_WAY_DISPATCH = 0,
	ACCEL_WAY_COMBINE = 1,
	ACCEL_WAYS = 2, /* that carry signals */
	/* This rank has read all results of the round: for destroy alone, no message of its own. */
	ACCEL_WAY_DONE = 2,
};

#define ACCEL_POLL_ALIVE (-1)

/* Whom an owner lets read its memory: one incarnation of the peer, or nobody and why. */
#define ACCEL_ADMITS_NONE 0 /* masked, or not met yet */
/* Added to an incarnation, which is even: the owner left, and did not wait for it to end its reading. */
#define ACCEL_ADMITS_LEFT 1
#define ACCEL_INCARNATION_MIN 2

/*
 * What a signal says, in both directions; all offsets in bytes. Read from memory that a peer writes
 * once, then checked. As it is given to send(), and as poll() of a peer that is not landed returns it:
 * dispatch: count rows for this peer; their records (ep.h) are at meta in the sender's window; the row
 *           of token t is at
 *           region:offset + t * stride, its scales at scale_region:scale_offset + t * scale_stride.
 *           base: to a peer that lands, the row of the sender's returned slice where this peer's
 *           results begin.
 * combine:  count results for this peer; y row i is at region:offset + i * stride. RANK, and every
 *           peer that lands: rows base..base + count - 1 in slot order.
 *           EXPERT: meta in the sender's window holds, row by row, the uint32 y row of each entry
 *           of those count rows.
 * poll() of a peer that lands gives count alone, the rest is 0: rows, records and results are in the
 * slices of this rank for that peer.
 */
struct accel_signal {
	uint64_t meta;
	uint64_t region;
	uint64_t offset;
	uint64_t scale_region;
	uint64_t scale_offset;
	uint32_t stride;
	uint32_t scale_stride;
	uint32_t count;
	uint32_t base;
};

struct accel_transport_ops {
	const char *name;
	bool lands; /* what peers send is moved into this rank's own memory */
	/* The local side, for one EP context whose memory exists. */
	int (*open)(struct accel_ep *ep, struct accel_transport **transport);
	/*
	 * The other side: the regions of its window and payload, and the incarnation its signals must
	 * bear. Lets it read, or write, from now on; once more for a new process of a peer that was
	 * closed.
	 */
	int (*connect)(struct accel_transport *transport, int peer, uint64_t window,
		       uint64_t payload, uint64_t incarnation);
	/*
	 * Let the peer use a region of this rank, or send from it; fast when it may already. The
	 * context's window comes first of a peer that is not connected: with it goes what the peer
	 * must know to connect. -ECONNRESET, -EPROTO the peer is gone; else, if ops->lands, the
	 * context's object has the sentence.
	 */
	int (*reg)(struct accel_transport *transport, int peer, struct accel_region *region);
	/* The region goes away; every peer forgets it. */
	void (*dereg)(struct accel_transport *transport, struct accel_region *region);
	/* The peer's region, with a reference for the caller, mapped for loads; NULL if ops->lands. */
	int (*reach)(struct accel_transport *transport, int peer, uint64_t region,
		     struct accel_region **mapped);
	/*
	 * Rows (where they must move), then the signal. Never waits: what finds no room in a queue is
	 * sent by later calls of poll(). Trouble is poll()'s to tell. ACCEL_WAY_DONE: peer -1, signal
	 * NULL.
	 */
	int (*send)(struct accel_transport *transport, int peer, uint32_t lane, enum accel_way way,
		    uint32_t round, const struct accel_signal *signal);
	/*
	 * Has the peer's signal of this round come? Sleeps up to sleep_ns for it (0: looks;
	 * ACCEL_POLL_ALIVE: looks, and whether the peer is dead). 1 yes, *signal written, and of a
	 * peer that lands: what this rank sent it one way before (DISPATCH: the combine of the last
	 * round; COMBINE: the dispatch of this one) is read from memory no more, and nothing that it
	 * sends this way waits for later calls, since the caller may now make none for long; 0 not yet;
	 * -ESTALE the peer has masked this rank; -ESHUTDOWN it has left, signal->meta its last
	 * round there; -ECONNRESET it is dead; -EIO the path to it is broken, trouble in ep.h says
	 * how; -EPROTO its channel or signal speaks nonsense. With
	 * ACCEL_WAY_DONE, after the peer's rows were read: -ESTALE if it has masked this rank,
	 * -ESHUTDOWN if it left and waits no longer, so that they may be torn; else 0, and always of a
	 * peer that lands; signal NULL.
	 */
	int (*poll)(struct accel_transport *transport, int peer, uint32_t lane, enum accel_way way,
		    uint32_t round, int64_t sleep_ns, struct accel_signal *signal);
	/*
	 * peer >= 0: fence it, tell it, never touch it again; when this returns neither it nor a NIC on
	 * its behalf reads or writes memory of this rank. -1: say goodbye to all, let go of what the
	 * context itself had shown, and free; in a child of fork() free alone.
	 */
	void (*close)(struct accel_transport *transport, int peer);
};

extern const struct accel_transport_ops accel_shm_ops, accel_verbs_ops;

#endif
