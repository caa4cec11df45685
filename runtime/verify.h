/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * --check: what the ranks computed against one process, bit for bit, and a few rows against the
 * plain kernels.
 */
#ifndef ACCEL_RUNTIME_VERIFY_H
#define ACCEL_RUNTIME_VERIFY_H

#include "report.h"

/**
 * moe_verify - fill in checks[layer] for every layer
 * @weights: of all experts
 * @hidden:  [N,H] bf16 input of the first layer, all ranks' tokens in rank order; changed: holds
 * the last layer's result
 * @given_ids, @given_weights: [L,N,K] routing that was given, or NULL: the gate is run again and
 * must agree
 * Return: 0 also when a check fails; -errno when it could not be made.
 */
int moe_verify(const struct moe_report *report, const struct moe_placement *placement,
	       struct moe_weights *weights, struct moe_team *team, uint32_t tokens,
	       uint16_t *hidden, const int32_t *given_ids, const float *given_weights,
	       struct moe_check *checks, struct moe_error *err);

#endif
