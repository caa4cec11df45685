/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Other ways to exchange, which a program brings to be measured in turn with accel's. Each takes the
 * caller's rows and returns lists of what came, and writes sums, like accel; it ends the program
 * where it cannot go on.
 */
#ifndef ACCEL_PERF_PEERS_H
#define ACCEL_PERF_PEERS_H

#include "perf_case.h"

/* One round of a rank's own rows. */
struct perf_sent {
	uint32_t tokens;
	const void *x, *scales; /* scales NULL: rows have none */
	const int32_t *ids;
	const float *weights;
};

/* What came, and where the results go: y [rows,H] bf16. */
struct perf_received {
	uint32_t rows;
	const void *const *row;
	const float *const *scale; /* NULL: rows have none */
	const int32_t *src_rank, *src_token;
	uint16_t *y;
};

struct perf_peers {
	const char *software;		/* in the document's "software" */
	const char *version;		/* its version */
	const char *settings;		/* how it was started */
	const char *method[PERF_PEERS]; /* in the document; NULL: not offered as it was started */
	uint64_t (*bytes)(const struct perf_case *c, unsigned peer); /* of one rank */
	/* Collective; NULL: no memory. */
	void *(*create)(const struct perf_case *c, unsigned peer, bool crowded);
	void (*dispatch)(void *context, const struct perf_sent *sent, struct perf_received *got);
	void (*combine)(void *context, uint16_t *out);
	void (*destroy)(void *context);
};

#endif
