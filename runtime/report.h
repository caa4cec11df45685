/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What a run has found, told as a table and as JSON ("accel-moe/1") from the same data. */
#ifndef ACCEL_RUNTIME_REPORT_H
#define ACCEL_RUNTIME_REPORT_H

#include "record.h"
#include "run_opts.h"

/* The check of one layer. */
struct moe_check {
	bool done, bits_equal, routing_equal;
	uint32_t near_ties;   /* tokens whose last choice was close to another: MOE_NEAR_TIE */
	uint64_t rows_differ; /* from one process */
	double rel_l2_max, rel_l2_mean, max_abs; /* of `rows` rows against the plain kernels */
	uint32_t rows;
};

/*
 * Bars of a row's relative L2 error. In FP8 a sum in another order may move a code of the quantised
 * activations by one step; of a narrow expert's few activations one step is up to 0.06 of a row.
 */
#define MOE_BAR_REL_L2 5e-3
#define MOE_BAR_REL_L2_NARROW 6e-2
#define MOE_NARROW_WIDTH 1024
#define MOE_NEAR_TIE 1e-6f /* of scores, experts' or groups' */

struct moe_report {
	const struct moe_run_opts *opts;
	const struct moe_record *record;
	const uint8_t *records;		/* [layers, world, record->bytes] */
	const struct moe_check *checks; /* [layers] */
	uint32_t world;
	const char *transport, *launcher;
	unsigned threads; /* of rank 0 */
	uint64_t weights_bytes;
	struct accel_ep_sizes ep_sizes;
	const struct moe_error *failure; /* what ended the run, or NULL */
};

/** moe_report_passed - no failure, no token incomplete, every check that was done holds */
bool moe_report_passed(const struct moe_report *report);

/** moe_report_print - the table, to standard output */
void moe_report_print(const struct moe_report *report);

/** moe_report_json - to a file; "-" is standard output */
int moe_report_json(const struct moe_report *report, const char *path, struct moe_error *err);

#endif
