/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * One rank's side of an exchange through the public API, checked against reference.h: it puts the
 * tokens of the round where the shape says, makes the calls, runs the pretended experts and
 * compares rows, lists, output and counters.
 *
 * Checks return whether all is as it must be and print the first difference, so that a test may
 * also ask "is this one whole round?"
 */
#ifndef ACCEL_TESTS_EXCHANGE_H
#define ACCEL_TESTS_EXCHANGE_H

#include "ranks.h"
#include "reference.h"

enum exchange_place {
	EXCHANGE_BUFFER,  /* an accel_buffer */
	EXCHANGE_POINTER, /* malloc'ed: the library must stage it */
	EXCHANGE_OUTPUT,  /* y only: accel_ep_output_get()'s memory */
	EXCHANGE_BARE,	  /* malloc'ed, and imported: staged where a peer must map it */
};

struct exchange_shape {
	struct reference_shape ref;
	uint32_t receive, combine_input, lanes, on_timeout;
	int64_t timeout_ns; /* of waits; 0: the group's */
	enum exchange_place x_place, y_place;
	uint32_t pad_bytes;	   /* between rows of x, y and out */
	uint32_t expand_alignment; /* 0: not expanded */
	bool blocking;	 /* accel_ep_dispatch() and accel_ep_combine() in exchange_round() */
	bool contiguous; /* placement tables are left to the library */
	/* ranks r with the same r / host_ranks share memory, other pairs a NIC; 0: all share it */
	int host_ranks;
};

struct exchange_memory {
	struct accel_buffer *buf; /* NULL: malloc'ed, or the library's */
	uint8_t *addr, *own;	  /* own: to be freed */
	size_t bytes;
};

struct exchange_lane {
	uint64_t round;		    /* begun so far */
	struct reference_input *in; /* [world], of the round */
	struct exchange_memory x, y;
	uint8_t *out;
	struct accel_ep_recv recv;
	struct accel_ep_expanded expand;
	struct accel_ep_combined combined;
	int rc_combine;
	struct accel_ep_stats want; /* what the counters must say of this lane */
};

struct exchange {
	const struct exchange_shape *shape;
	int rank;
	bool owns_group;
	bool others_known; /* lane.in of the other ranks is made too, for exchange_recv_ok() */
	struct accel_device *dev;
	struct accel_group *group;
	struct accel_ep *ep;
	struct exchange_lane lane[ACCEL_LANES_MAX];
};

/* A random shape for world ranks whose memory stays small. */
void exchange_shape_random(struct exchange_shape *shape, uint64_t seed, int world);
/* A plain shape: bf16, in place, RANK, buffers, hidden 256, top-4 of 16, 24 tokens. */
void exchange_shape_plain(struct exchange_shape *shape, uint64_t seed, int world);
/* Does what rank a sends to rank b land there? */
bool exchange_lands(const struct exchange_shape *shape, int a, int b);
/* R1's rows and routing: as above, hidden 7168, top-8 of 256 experts, in 4 of 8 groups; one lane. */
void exchange_shape_r1(struct exchange_shape *shape, uint64_t seed, int world, uint32_t tokens);
void exchange_shape_print(const struct exchange_shape *shape);

/* Options and create on their own, for tests that want only the context. */
void exchange_ep_opts(const struct exchange_shape *shape, struct accel_ep_opts *opts);
int exchange_ep_create(const struct exchange_shape *shape, struct accel_group *group,
		       struct accel_ep **ep);

/* Make device, the ranks' group of that number, context and memory; false after a failed check. */
bool exchange_open(struct exchange *e, struct ranks_ctx *ctx, int rank, int number,
		   const struct exchange_shape *shape);
/* The same inside a group that exists. */
bool exchange_open_in(struct exchange *e, int rank, struct accel_device *dev,
		      struct accel_group *group, const struct exchange_shape *shape);
/*
 * Memory for a context that exists, which exchange_close() then destroys: 0, or why there is no
 * buffer; no failed check.
 */
int exchange_attach(struct exchange *e, int rank, struct accel_device *dev,
		    struct accel_group *group, struct accel_ep *ep,
		    const struct exchange_shape *shape);
void exchange_close(struct exchange *e);

int exchange_dispatch_begin(struct exchange *e, uint32_t lane); /* the next round */
int exchange_dispatch_end(struct exchange *e, uint32_t lane,
			  int64_t timeout_ns);		       /* and expand, if asked */
int exchange_combine_begin(struct exchange *e, uint32_t lane); /* after the experts */
int exchange_combine_end(struct exchange *e, uint32_t lane, int64_t timeout_ns);
void exchange_experts(struct exchange *e, uint32_t lane); /* y from the received rows */

bool exchange_recv_ok(struct exchange *e,
		      uint32_t lane); /* lists, rows, and expanded rows if any */
bool exchange_lists_ok(struct exchange *e, uint32_t lane);
bool exchange_rows_ok(struct exchange *e,
		      uint32_t lane); /* their bits alone; no failed check if they differ */
bool exchange_out_ok(struct exchange *e, uint32_t lane);
void exchange_stats_check(struct exchange *e);

/* A whole round, everything checked; false when it went wrong. */
bool exchange_round(struct exchange *e, uint32_t lane);

/* The last failure of the context. */
struct accel_error exchange_error(struct exchange *e);

#endif
