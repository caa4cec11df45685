/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * A library that computes an expert's FFN as well as it can: what ours is compared with. Each has its
 * weights in its own format, packed beforehand, and all have the same number of threads on the same
 * cores. A library is loaded when asked for; its absence is a sentence.
 */
#ifndef ACCEL_PERF_PEER_H
#define ACCEL_PERF_PEER_H

#include "perf_team.h"

#include <kernels.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PERF_PEER_EXPERTS_MAX = 64,
	PERF_PEER_SETTINGS_BYTES = 96,
	PERF_PEER_TRIES = 3, /* of each way to call it, before the fastest is chosen */
};

/* What all peers compute; it outlives them. */
struct perf_peer_shape {
	const struct k_ops *ops;
	struct perf_team *team;
	uint32_t hidden, intermediate, rows_max;
	unsigned experts; /* of the ring */
	/* gate and up as one matrix [2 I,H], then down [H,I]; f32 [out,in] */
	const float *plain[PERF_PEER_EXPERTS_MAX];
	const float *x; /* [rows_max,H] */
};

/* The beginning of every peer; what follows is its own. */
struct perf_peer {
	const struct perf_peer_ops *ops;
	const struct perf_peer_shape *shape;
	uint32_t m;	      /* of the measurement at hand */
	size_t payload_bytes; /* weights of one expert */
	char software[32];    /* its version */
	char settings
		[PERF_PEER_SETTINGS_BYTES]; /* what ran: version, kernels and the call chosen */
	float *y;			    /* [m,H] */
};

struct perf_peer_ops {
	const char *method;	/* "openblas", "onednn-f32", ... */
	const char *library;	/* the key of its version in the document */
	const char *dtype;	/* of weights and rows: "f32", "bf16" */
	double error_max;	/* of a row, beside ours: relative L2 */
	const char *wrong_cure; /* what helps when it computes wrong results on this CPU, or NULL */
	/* Bytes of memory of one expert beside the plain weights. */
	size_t (*expert_bytes)(const struct perf_peer_shape *shape);
	/* 0; -ENOENT, -ENOTSUP or -ENOMEM and a sentence */
	int (*open)(const struct perf_peer_shape *shape, struct perf_peer **peer, char *why,
		    unsigned why_bytes);
	/* Measurements of m rows follow: weights are packed and calls chosen for it. False: it cannot. */
	bool (*prepare)(struct perf_peer *peer, uint32_t m);
	/* One FFN of the first m rows, in ns; the result is in y. */
	int64_t (*run)(struct perf_peer *peer, unsigned expert);
	void (*close)(struct perf_peer *peer);
};

extern const struct perf_peer_ops perf_peer_openblas, perf_peer_onednn_f32, perf_peer_onednn_bf16,
	perf_peer_torch;

/*
 * SwiGLU between the matrices by the kernels that ours uses, in the team where waking it pays:
 * gate_up [m, 2 I] to out [m,I] of the dtype. Peers lose nothing by it.
 */
void perf_peer_swiglu(const struct perf_peer_shape *shape, uint32_t m, const float *gate_up,
		      enum k_dtype dtype, void *out);

/*
 * Threads that a library starts belong on the team's cores: those that the process has and had not
 * when the set was taken are pinned, one a core, beginning with the second.
 */
struct perf_threads {
	int tid[2 * PERF_TEAM_MAX];
	unsigned count;
};

void perf_threads_take(struct perf_threads *threads);
void perf_threads_pin_new(const struct perf_threads *before);

#endif
