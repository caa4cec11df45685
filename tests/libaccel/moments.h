/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Where in its round a rank fails, for tests that try each. */
#ifndef ACCEL_TESTS_MOMENTS_H
#define ACCEL_TESTS_MOMENTS_H

#include "exchange.h"
#include "tap.h"

#include <signal.h>

/* In the order of a round; the last is for tests that look into the sum. */
enum moment { BEFORE_BEGIN, AFTER_BEGIN, AFTER_END, AFTER_COMBINE, AFTER_ROUND, MOMENTS, IN_SUM };

static const char *const moments[] = {"before dispatch_begin",	"after dispatch_begin",
				      "after dispatch_end",	"after combine_begin",
				      "after the round",	"nowhere",
				      "in the midst of the sum"};

/* The last round of a rank on lane 0, up to where it dies. */
static inline void die_at(struct exchange *e, enum moment moment)
{
	for (int step = BEFORE_BEGIN; step <= (int)moment; step++) {
		int rc = 0;

		if (step == AFTER_BEGIN)
			rc = exchange_dispatch_begin(e, 0);
		else if (step == AFTER_END)
			rc = exchange_dispatch_end(e, 0, -1);
		else if (step == AFTER_COMBINE)
			rc = exchange_combine_begin(e, 0);
		else if (step == AFTER_ROUND)
			rc = exchange_combine_end(e, 0, -1);
		CHECK_EQ(rc, 0);
	}
	raise(SIGKILL);
}

#endif
