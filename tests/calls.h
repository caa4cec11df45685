/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * Between the library and the C library: what libaccel allocates and maps is counted, and one of
 * its calls fails on demand. The Makefile links tests/stress with a libaccel whose calls of these
 * functions, and nobody else's, go to calls.c (the linker's --wrap).
 */
#ifndef ACCEL_TESTS_CALLS_H
#define ACCEL_TESTS_CALLS_H

#include <stdbool.h>
#include <stdint.h>

/* What the library may make of it: succeed, or */
enum calls_effect {
	CALLS_FATAL = 1, /* fail */
	CALLS_SHORTAGE,	 /* fail for want of memory or descriptors, and say that */
	CALLS_PASSING,	 /* nothing: it means "again", or "without it" */
};

/* One way in which one function can fail. */
struct calls_fault {
	const char *name; /* of the function */
	int error;	  /* errno, or what getaddrinfo() returns */
	enum calls_effect effect;
};

extern const struct calls_fault calls_faults[];
extern const unsigned calls_fault_count;

/* Fail the n-th call (from 1) of that function that this thread makes from now on. NULL: none. */
void calls_fail(const struct calls_fault *fault, unsigned n);
/* Has it failed since? */
bool calls_failed(void);

/* What the library holds in this process. */
struct calls_held {
	int64_t blocks;	  /* of the heap */
	int64_t mappings; /* of any kind */
};

struct calls_held calls_held(void);

#define CHECK_HELD(before)                                                                         \
	do {                                                                                       \
		struct calls_held held_after = calls_held();                                       \
		CHECK_EQ(held_after.blocks, (before).blocks);                                      \
		CHECK_EQ(held_after.mappings, (before).mappings);                                  \
	} while (0)

#endif
