/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Where the stand-ins for libibverbs of this build are, and the control of the one without a NIC. */
#ifndef ACCEL_TESTS_VERBS_LOOP_LIBRARY_H
#define ACCEL_TESTS_VERBS_LOOP_LIBRARY_H

#include "verbs/loop.h"

/* What verbs.library takes; the program ends where they were not built. */
const char *verbs_loop_path(void);
const char *verbs_record_path(void);

const struct loop_control *verbs_loop(void);

/* Everything of the loop library was given back. */
#define CHECK_LOOP_EMPTY()                                                                         \
	do {                                                                                       \
		const struct loop_live loop_live_now = verbs_loop()->live();                       \
		CHECK_EQ(loop_live_now.contexts, 0);                                               \
		CHECK_EQ(loop_live_now.pds, 0);                                                    \
		CHECK_EQ(loop_live_now.mrs, 0);                                                    \
		CHECK_EQ(loop_live_now.channels, 0);                                               \
		CHECK_EQ(loop_live_now.cqs, 0);                                                    \
		CHECK_EQ(loop_live_now.qps, 0);                                                    \
		CHECK_EQ(loop_live_now.threads, 0);                                                \
	} while (0)

#endif
