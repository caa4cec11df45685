/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What one random case is, all of it out of one number: the exchange, who meets how, and which rank
 * does what wrong, when.
 */
#ifndef ACCEL_TESTS_PLAN_H
#define ACCEL_TESTS_PLAN_H

#include "exchange.h"

enum fault_kind {
	FAULT_NONE,
	FAULT_LEAVE, /* destroys its context in the midst of a round */
	FAULT_ABORT, /* another thread aborts it */
	FAULT_MASK,  /* another thread masks a rank that lives */
	FAULT_STALL, /* makes no call for a while */
	FAULT_STOP,  /* SIGSTOP, and SIGCONT when others may have noticed */
	FAULT_KILL,  /* SIGKILL */
};

/* Where in its life; the first MOMENTS_OF_ROUND are places in a round. */
enum moment {
	BEFORE_BEGIN,
	AFTER_BEGIN,
	AFTER_END,
	AFTER_COMBINE,
	AFTER_ROUND,
	MOMENTS_OF_ROUND,
	IN_CREATE = MOMENTS_OF_ROUND, /* these are some time after it has begun */
	IN_ROUNDS,
	IN_DESTROY,
	MOMENTS,
};

struct fault {
	enum fault_kind kind;
	enum moment moment;
	uint32_t lane, round; /* of a place in a round */
	uint32_t delay_us;    /* of a time after a beginning */
	uint32_t step;	      /* of its own, after which another thread aborts or masks */
	int target;	      /* of the mask */
};

struct plan {
	uint64_t seed;
	struct exchange_shape shape;
	bool threads, store;
	bool tries;	 /* waits are tried without a timeout first */
	bool patient;	 /* waits are long: nobody is masked for being slow */
	int64_t wait_ns; /* of a call, else */
	uint32_t rounds;
	uint32_t drivers[RANKS_MAX];  /* threads that drive a rank's lanes: 1 or 2 */
	uint32_t patience[RANKS_MAX]; /* timeouts until it masks who is missing */
	struct fault fault[RANKS_MAX];
	int keeper; /* a rank without a fault: it continues who was stopped */
};

/* races: also faults after which rows are read and written at once, and seen to be torn. */
void plan_make(struct plan *plan, uint64_t seed, bool threads, bool races);
void plan_print(const struct plan *plan);
uint64_t plan_dies(const struct plan *plan); /* bit r: rank r is killed */
bool plan_has(const struct plan *plan, enum fault_kind kind);

#endif
