/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Points in time on CLOCK_MONOTONIC, in ns, for poll()s that are bounded as a whole. */
#ifndef ACCEL_DEADLINE_H
#define ACCEL_DEADLINE_H

#include "order.h"

#include <stdbool.h>

#define ACCEL_NS_PER_MS INT64_C(1000000)

static inline int64_t accel_deadline_after(int64_t timeout_ns)
{
	int64_t now_ns = accel_now_ns();

	return timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + timeout_ns;
}

static inline bool accel_deadline_passed(int64_t deadline_ns)
{
	return accel_now_ns() >= deadline_ns;
}

/*
 * What poll() takes: ms until then, rounded up so that nobody spins through the last one, at most
 * max_ms.
 */
static inline int accel_deadline_poll_ms(int64_t deadline_ns, int max_ms)
{
	int64_t left_ns = deadline_ns - accel_now_ns();

	if (left_ns <= 0)
		return 0;
	return left_ns / ACCEL_NS_PER_MS >= max_ms ? max_ms : (int)(left_ns / ACCEL_NS_PER_MS) + 1;
}

#endif
