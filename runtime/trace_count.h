/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* How often a trace chooses each expert. */
#ifndef ACCEL_RUNTIME_TRACE_COUNT_H
#define ACCEL_RUNTIME_TRACE_COUNT_H

#include "trace.h"

/**
 * moe_trace_count - read a trace to its end
 * @layers: [layer_count] which ones to count, others are passed over
 * @load:   [layer_count, experts] choices are added
 * @tokens: [layer_count] tokens are added
 * Return: 0, or as moe_trace_next().
 */
int moe_trace_count(struct moe_trace *trace, const uint32_t *layers, uint32_t layer_count,
		    uint64_t *load, uint64_t *tokens, struct moe_error *err);

#endif
