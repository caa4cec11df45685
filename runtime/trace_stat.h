/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* How even a trace is, layer by layer, as a table and as JSON ("accel-trace-stat/1"). */
#ifndef ACCEL_RUNTIME_TRACE_STAT_H
#define ACCEL_RUNTIME_TRACE_STAT_H

#include "run_opts.h"

/**
 * moe_trace_stat - read a trace and tell
 * @opts: ranks, placement and, for dumps, the geometry
 * Return: 0; -EINVAL what does not fit; as moe_trace_open(); -EIO, the JSON cannot be written.
 */
int moe_trace_stat(const struct moe_run_opts *opts, const char *path, struct moe_error *err);

#endif
