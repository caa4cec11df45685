/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * The insides of an EP context. One rank's memory, taken at create and laid out by ep_layout.c:
 *     window   peers map it read-only; always a memfd: the board, and per lane records, entry map
 *     payload  peers map it read-only; of the group's device: per lane quantised or staged rows,
 *              expert output, and the parts that are made of it for peers that land
 *     landed   of the group's device; no process but this one maps it: per lane landed rows and
 *              returned results
 *     What remote peers write into window and landed is laid out by ep_slice.h.
 *     private_memory   this process's alone: lists
 * Signals stay in a memfd since a futex of several processes needs pages of a file's, which a
 * device's are not. Nothing is allocated afterwards.
 *
 * A lane is driven by one thread at a time; masked, aborted and the counters are the only words
 * that threads share.
 */
#ifndef ACCEL_EP_INTERNAL_H
#define ACCEL_EP_INTERNAL_H

#include "group.h"
#include "transport.h"

/*
 * The metadata of one (token, rank) row as it travels: which choices are of experts at the
 * destination, then those experts' slots there and weights, in order of k.
 */
struct accel_ep_record {
	uint64_t choices; /* bit k */
	uint32_t token;	  /* at the source */
	uint32_t reserved;
	struct accel_ep_entry {
		uint32_t slot;
		float weight;
	} entry[];
};

/* What must be equal on all ranks, as sent in EP_OPTS; the placement tables follow it there. */
struct accel_ep_shape {
	uint32_t version;
	uint32_t hidden, topk, experts, tokens_max;
	uint32_t dtype, receive, combine_input, quant, lanes;
};

#define ACCEL_EP_VERSION 3

/* Local choices, after defaults. */
struct accel_ep_local {
	uint32_t on_timeout, spin_us, huge, output_rows;
	uint32_t remotes; /* peers whose transport lands: of the group, or of the size query */
	int64_t timeout_ns;
};

/*
 * Where everything lies: offsets in bytes, of the window, the payload or the private memory; those
 * of a lane count from its base.
 */
struct accel_ep_layout {
	uint32_t experts_local;
	uint32_t record_bytes; /* struct accel_ep_record with room for K entries */
	uint32_t row_bytes;    /* of a row as it travels: codes then scales, or bf16 */
	uint32_t scale_offset; /* of the scales in such a row */
	uint32_t remotes;      /* peers whose transport lands */
	uint64_t rows_max;     /* that this rank can receive: R x tokens_max */
	uint64_t sends_max;    /* (token, rank) pairs it can send: tokens_max x min(K, R) */
	uint64_t terms_max;    /* of its own combine: sends_max, or tokens_max x K */
	uint64_t entries_max;  /* that it can receive: rows_max x K */
	uint64_t output_rows;  /* of the lane's own y */
	uint64_t landed_rows, returned_rows, parts_rows; /* ep_slice.h, of all slices of a lane */

	uint64_t window_lane, window_lane_bytes, window_bytes; /* the board comes first */
	uint64_t records, map;
	/* ep_slice.h: of all lanes and remotes, in one stretch each; inbox_bytes is one's */
	uint64_t inboxes, inboxes_bytes, inbox_bytes, outboxes;
	uint64_t payload_lane_bytes, payload_bytes;
	uint64_t rows, output, parts;
	uint64_t returned; /* in a lane of landed */
	uint64_t landed_lane_bytes, landed_bytes;

	uint64_t tables_placement, tables_masked, tables_joins, tables_wait, tables_window,
		tables_arrival, tables_peers;
	uint64_t private_tables_bytes, private_lane_bytes, private_bytes;
	uint64_t weights, send_count, send_entries, token_choices, slot, entry;
	uint64_t owner_offset, owner, owner_choices;
	uint64_t row, scale, choices, src_rank, src_token, topk_idx, topk_weights, rank_offset;
	uint64_t expert_offset, expert_row, expert_k, expert_weight, expand_offset, expand_count;
	uint64_t part_offset, term_offset, term_row, term_weight, incomplete;

	/* all lanes, for the size query */
	uint64_t recv_bytes, rows_bytes, output_bytes, returned_bytes;
};

enum accel_lane_phase {
	ACCEL_LANE_IDLE = 0,	    /* dispatch_begin */
	ACCEL_LANE_DISPATCHING = 1, /* dispatch_end */
	ACCEL_LANE_RECEIVED = 2,    /* expand, combine_begin */
	ACCEL_LANE_COMBINING = 3,   /* combine_end */
};

/* What a rank lends its peers in a round. */
enum accel_lent {
	ACCEL_LENT_X = 0,
	ACCEL_LENT_SCALES = 1,
	ACCEL_LENT_Y = 2,
	ACCEL_LENT_COUNT = 3,
};

/* What has come from one peer in the open round. */
struct accel_ep_arrival {
	bool arrived[ACCEL_WAYS];
	uint32_t count; /* rows it sent */
	const uint8_t *records;
	const uint8_t *rows, *scales; /* of its token 0 */
	uint64_t stride, scale_stride;
	uint64_t tokens;	/* rows that lie inside its regions */
	bool by_slot;		/* rows and scales lie here, those of slot i at i * stride */
	bool parts;		/* results are parts, one a row sent there */
	const uint8_t *results; /* its y, row 0 */
	uint64_t results_stride, results_rows;
	uint64_t results_base; /* of one that lands from dispatch_begin on: what it was told */
	const uint32_t *results_map;
	struct accel_region *held[ACCEL_LENT_COUNT]; /* references while the round is open */
};

struct accel_ep_span {
	uintptr_t begin, end;
};

struct accel_ep_lane {
	enum accel_lane_phase phase;
	uint64_t round;	   /* open, or the last that was */
	uint64_t combined; /* last round whose results were handed over */
	uint32_t tokens;
	uint32_t incomplete_count;
	bool expanded;

	uint8_t *records; /* in the window */
	uint32_t *map;	  /* in the window: y row of each received entry, row-major */
	uint8_t *rows;	  /* in the payload: quantised or staged */
	uint16_t *output; /* in the payload */

	float *weights;			     /* [T,K] EXPERT only */
	uint32_t *send_count, *send_entries; /* [R] rows and entries of this rank's there */
	/*
	 * Own tokens: token t goes to the ranks owner[owner_offset[t]] .. owner[owner_offset[t + 1] - 1],
	 * ascending, for the choices whose bits are set in owner_choices.
	 */
	uint32_t *owner_offset, *owner;
	uint64_t *owner_choices;
	uint64_t *token_choices; /* [R] of the token that is being laid out, else 0 */
	/*
	 * [R] that the sum of combine has come to; before that entry[p] is where the map has those of
	 * the rows that came from rank p
	 */
	uint32_t *slot, *entry;
	struct accel_ep_recv recv; /* points into the lists below */
	const void **row;
	const float **scale;
	uint64_t *choices; /* [N] bit k: topk_idx[k] is a local expert */
	int32_t *src_rank, *src_token, *topk_idx;
	float *topk_weights;
	uint32_t *rank_offset, *expert_offset, *expert_row, *expert_k;
	float *expert_weight;
	uint32_t *expand_offset, *expand_count;
	uint32_t *part_offset, *term_offset;
	const void **term_row;
	float *term_weight;
	uint32_t *incomplete;

	struct accel_ep_arrival *peer;			       /* [R] */
	struct accel_signal self[ACCEL_WAYS];		       /* what this rank tells itself */
	const uint8_t *self_rows, *self_scales, *self_results; /* where those lie */
	/* The caller's tensors of the round, which out must not overlap. */
	struct accel_ep_span x, scales, y;
	struct accel_region *lent[ACCEL_LENT_COUNT]; /* own regions that peers may be reading */
};

/* How a peer is reached. */
struct accel_ep_peer {
	struct accel_transport *transport; /* NULL for this rank */
	int32_t remote;			   /* its number in ep_slice.h, or -1: it does not land */
	/* What broke the path, for people; written before poll() first says -EIO, or -EPROTO of verbs. */
	char trouble[ACCEL_TROUBLE_BYTES];
};

struct accel_ep_counters {
	_Atomic uint64_t bytes_landed, bytes_quantised, bytes_staged, rounds, rows_sent,
		rows_received, sleeps, wait_ns;
	_Atomic uint64_t bytes_wire, work_requests;
};

struct accel_ep {
	struct accel_object obj;
	struct accel_group *group;
	uint64_t incarnation;
	struct accel_ep_shape shape;
	struct accel_ep_local local;
	uint64_t cached_bytes; /* what of all ranks' landed rows the last-level cache keeps */
	struct accel_ep_layout layout;
	int32_t *expert_rank, *expert_slot; /* [E] */
	struct accel_region *window, *payload, *private_memory;
	struct accel_region *landed; /* NULL: rows are received in place, and no NIC lands any */
	struct accel_transport
		*transport[ACCEL_LINKS]; /* those that the group's pairs use, or NULL */
	struct accel_ep_peer *peers;	 /* [R] */
	uint64_t tag;		  /* of the last meeting, equal on all ranks that were there */
	_Atomic uint32_t *masked; /* [R] ACCEL_MASK_BEGUN, then ACCEL_MASK_FENCED too */
	uint32_t *joins; /* [R] how often each rank had joined the group when it was met here */
	_Atomic uint32_t aborted;
	_Atomic uint64_t *peer_wait_ns; /* [R] */
	struct accel_ep_counters counters;
	struct accel_ep_arrival *arrivals; /* [lanes, R] */
	struct accel_region **peer_window; /* [R] */
	struct accel_ep_lane lane[ACCEL_LANES_MAX];
};

/*
 * ep_params.c: from arguments and options to a shape, local choices and tables. Errors go to the
 * thread's slot.
 */
int accel_ep_params(int world, uint32_t hidden, uint32_t topk, uint32_t experts,
		    uint32_t tokens_max, const struct accel_ep_opts *opts,
		    struct accel_ep_shape *shape, struct accel_ep_local *local,
		    int32_t *expert_rank, int32_t *expert_slot);
/* Does a peer's shape differ? Says which field and both values in the thread's slot: -EINVAL. */
int accel_ep_compare(int rank, const struct accel_ep_shape *mine, const int32_t *my_tables,
		     int peer, const struct accel_ep_shape *theirs, const int32_t *their_tables);

/* ep_layout.c */
int accel_ep_layout_init(struct accel_ep_layout *layout, int rank, int world,
			 const struct accel_ep_shape *shape, const struct accel_ep_local *local,
			 const int32_t *expert_rank);
void accel_ep_lane_init(struct accel_ep *ep, uint32_t lane);
/* shm.c: what the board takes at the window's start */
size_t accel_board_bytes(int world, uint32_t lanes);

/* ep_wait.c */
typedef int accel_ep_arrived_fn(struct accel_ep *ep, struct accel_ep_lane *lane, int peer,
				const struct accel_signal *signal);
int accel_ep_gather(struct accel_ep *ep, uint32_t lane, enum accel_way way, int64_t timeout_ns,
		    accel_ep_arrived_fn *arrived);
/*
 * After rows were read: -ESTALE an unmasked peer has masked this rank, -ESHUTDOWN one left without
 * waiting for it any longer (said); else 0
 */
int accel_ep_stale(struct accel_ep *ep, uint32_t lane, enum accel_way way);
/* Does what the rank sends arrive in the slices of ep_slice.h? */
static inline bool accel_ep_lands(const struct accel_ep *ep, int rank)
{
	return ep->peers[rank].remote >= 0;
}

/* That this lane's results of the round were read, to all. */
static inline void accel_ep_done(struct accel_ep *ep, uint32_t lane)
{
	for (int link = 0; link < ACCEL_LINKS; link++) {
		struct accel_transport *t = ep->transport[link];

		if (t)
			t->ops->send(t, -1, lane, ACCEL_WAY_DONE, (uint32_t)ep->lane[lane].round,
				     NULL);
	}
}

static inline void accel_ep_close(struct accel_ep *ep, int peer)
{
	struct accel_transport *t = ep->peers[peer].transport;

	if (t)
		t->ops->close(t, peer);
}

/* Give up the references to peers' regions of the round. */
void accel_ep_release(struct accel_ep_lane *lane, int world);

/* ep_lane.c */
/* The lane if the call is in order, else NULL and *rc = -EINVAL, -EBUSY or -ECANCELED. */
struct accel_ep_lane *accel_ep_lane_get(struct accel_ep *ep, uint32_t lane,
					enum accel_lane_phase phase, const char *call, int *rc);

struct accel_ep_place {
	struct accel_region *region; /* with a reference */
	uint64_t offset;	     /* of row 0 */
	const uint8_t *addr;
	uint64_t stride;
};

static inline struct accel_ep_span accel_ep_span(const void *ptr, uint64_t rows, uint64_t stride,
						 uint64_t row_bytes)
{
	if (!rows) /* nowhere, and in no other span */
		return (struct accel_ep_span){0};
	return (struct accel_ep_span){(uintptr_t)ptr,
				      (uintptr_t)ptr + (rows - 1) * stride + row_bytes};
}

static inline bool accel_ep_overlap(struct accel_ep_span a, struct accel_ep_span b)
{
	return a.begin < b.end && b.begin < a.end;
}

/* The region of the caller's buffer that holds the range, if peers can be sent to from there; or NULL. */
struct accel_region *accel_ep_region_find(struct accel_ep *ep, const void *ptr, uint64_t bytes);
/*
 * The caller's rows where they lie, or copied to stage (in the payload) and counted when peers
 * cannot reach them there.
 */
void accel_ep_place(struct accel_ep *ep, const void *ptr, uint64_t rows, uint64_t stride,
		    uint64_t row_bytes, uint8_t *stage, uint64_t stage_stride,
		    struct accel_ep_place *place);
void accel_ep_lend(struct accel_ep_lane *lane, enum accel_lent what,
		   struct accel_region *region); /* takes the reference over */
/*
 * Every unmasked peer may use the region from now on; of those that land only if it is sent to them
 * from there. 0, or said: -ETIMEDOUT, -ENOSPC, -ENOMEM, -ECANCELED, -EOPNOTSUPP, -EIO. A dead peer is
 * end's business.
 */
int accel_ep_reg(struct accel_ep *ep, uint32_t lane, struct accel_region *region, bool is_sent);
/*
 * Tell every unmasked rank what fill() makes of the signal for it: first those that a store tells,
 * then those that a NIC moves rows to, from the next rank on, so that not all begin with one.
 */
typedef void accel_ep_fill_fn(struct accel_ep *ep, uint32_t lane, int rank,
			      struct accel_signal *signal);
void accel_ep_tell(struct accel_ep *ep, uint32_t lane, enum accel_way way,
		   const struct accel_signal *signal, accel_ep_fill_fn *fill);
/*
 * How many rows of row_bytes lie in a peer's region from offset on: 0 with the reference in *held;
 * -EPROTO; -ENOMEM it cannot be mapped here; -ECONNRESET, -ESHUTDOWN the peer and it are gone.
 */
int accel_ep_reach(struct accel_ep *ep, int peer, uint64_t region, uint64_t offset, uint64_t stride,
		   uint64_t row_bytes, struct accel_region **held, const uint8_t **addr,
		   uint64_t *rows);

/*
 * From BEGUN on the rank may find itself masked and reuse its rows: none is summed any more. From
 * FENCED on it cannot take for new what it still reads here: it is waited for no more.
 */
#define ACCEL_MASK_BEGUN 1u
#define ACCEL_MASK_FENCED 2u

static inline bool accel_ep_mask_begun(const struct accel_ep *ep, int rank)
{
	return atomic_load_explicit(&ep->masked[rank], memory_order_acquire) != 0;
}

static inline int accel_ep_masks_begun(const struct accel_ep *ep)
{
	int count = 0;

	for (int p = 0; p < ep->group->world; p++)
		count += accel_ep_mask_begun(ep, p);
	return count;
}

static inline bool accel_ep_is_masked(const struct accel_ep *ep, int rank)
{
	return atomic_load_explicit(&ep->masked[rank], memory_order_acquire) & ACCEL_MASK_FENCED;
}

static inline const struct accel_ep_record *accel_ep_record(const struct accel_ep *ep,
							    const uint8_t *records, uint32_t i)
{
	return (const void *)(records + (size_t)i * ep->layout.record_bytes);
}

/* The lowest k of the choices, which are not 0; it is taken out of them. */
static inline uint32_t accel_ep_choice_next(uint64_t *choices)
{
	uint32_t k = (uint32_t)__builtin_ctzll(*choices);

	*choices &= *choices - 1;
	return k;
}

static inline uint32_t accel_min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static inline void accel_ep_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
