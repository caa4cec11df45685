/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* `accel-perf ffn` with its bars and its JSON; what is measured is perf_ffn.h's. */
#ifndef ACCEL_PERF_FFN_COMMAND_H
#define ACCEL_PERF_FFN_COMMAND_H

/* argv[0] is "ffn"; an exit code. */
int perf_ffn_command(int argc, char **argv);

#endif
