/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * N ranks that run one test body, as forked processes or as threads of this process, within a time
 * limit. A failed CHECK of a rank fails the test wherever it runs; a rank that hangs is named and
 * killed; a process that dies unasked is a failure.
 *
 * Ranks meet by the caller's own allgather (over memory that all of them see) or at a TCP store on
 * a free port.
 */
#ifndef ACCEL_TESTS_RANKS_H
#define ACCEL_TESTS_RANKS_H

#include <accel/accel_ep.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	RANKS_MAX = 16,
	RANKS_LIVES = 64, /* ranks and restarted ones that one run may have */
	RANKS_EVENTS = 64,
	RANKS_GROUPS = 8, /* groups that one run may make */
};

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RANKS_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define RANKS_ASAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define RANKS_TSAN 1
#endif
#ifdef __SANITIZE_ADDRESS__
#define RANKS_ASAN 1
#endif
#ifndef RANKS_TSAN
#define RANKS_TSAN 0
#endif
#ifndef RANKS_ASAN
#define RANKS_ASAN 0
#endif

/* A test whose ranks are processes. TSan sees nothing of another process: there it does not exist. */
#if RANKS_TSAN
#define TEST_OF_PROCESSES(noun, behaviour)                                                         \
	__attribute__((unused)) static void noun##_##behaviour(void)
#else
#define TEST_OF_PROCESSES(noun, behaviour) TEST(noun, behaviour)
#endif

struct ranks_opts {
	int world;
	bool threads;	  /* of this process; else processes */
	bool store;	  /* meet at a TCP store; else by an allgather callback */
	unsigned limit_s; /* 0: 60 */
	/*
	 * Ranks first..first + here - 1 run here, the others on other hosts, and all meet at this store;
	 * here 0: all of them run here. They know of each other's events only what runs here.
	 */
	int first, here;
	const char *store_addr;
	uint16_t store_port;
	uint64_t dies;	   /* bit r: rank r ends by SIGKILL, and must, in its first life */
	size_t area_bytes; /* of ctx->area */
	/* whose memory ranks have, even and odd ones; NULL: "host" */
	const char *device[2];
	void *arg; /* ctx->arg */
};

struct ranks_shared;

struct ranks_ctx {
	int world;
	int first, here; /* the ranks of this run: first..first + here - 1 */
	const char *store_addr;
	int life; /* how often this rank was started before */
	bool threads, store;
	const char *device[2];
	void *arg;
	void *area; /* zeroed, seen by all ranks */
	struct ranks_shared *shared;
};

/* Run body as each rank; true if no rank hung or died unasked. */
bool ranks_run(const struct ranks_opts *opts, void (*body)(struct ranks_ctx *ctx, int rank));

/*
 * Run the body as that rank once more, beside the life that it may still have: it meets as one that
 * joins. dies: the new life ends by SIGKILL, and must.
 */
void ranks_restart(struct ranks_ctx *ctx, int rank, bool dies);
/* The allgather of the number-th group is one of these ranks (bit r) alone, from now on. */
void ranks_meet_as(struct ranks_ctx *ctx, int number, uint32_t present);

/* How the ranks of this run meet in their number-th group (0..RANKS_GROUPS-1). */
void ranks_group_opts(struct ranks_ctx *ctx, int rank, int number, struct accel_group_opts *opts);
/* Open the rank's device and make the number-th group; the cause of a failure is printed. */
int ranks_group_create(struct ranks_ctx *ctx, int rank, int number, struct accel_device **dev,
		       struct accel_group **group);

/* Counters that ranks raise and wait for; waiting is bounded, and a failed wait fails the test. */
void ranks_raise(struct ranks_ctx *ctx, int event);
bool ranks_await(struct ranks_ctx *ctx, int event, uint32_t count);
/* The same for at most limit_ns, and no failed check: has the event been raised so often? */
bool ranks_await_for(struct ranks_ctx *ctx, int event, uint32_t count, int64_t limit_ns);
bool ranks_raised(struct ranks_ctx *ctx, int event, uint32_t count);
/* The number-th meeting of the ranks at an event: raise, then wait for number * members. */
bool ranks_meet(struct ranks_ctx *ctx, int event, uint32_t number, int members);

pid_t ranks_pid(struct ranks_ctx *ctx, int rank); /* of a rank that is a process: its last life */

uint64_t ranks_now_ns(void);
uint16_t ranks_free_port(void);

#endif
