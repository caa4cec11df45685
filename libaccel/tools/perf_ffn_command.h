/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* `accel-perf ffn` with its bar and its JSON; what is measured is perf_ffn.h's. */
#ifndef ACCEL_PERF_FFN_COMMAND_H
#define ACCEL_PERF_FFN_COMMAND_H

/* Takes --json FILE besides the options of perf_ffn_run(); an exit code. */
int perf_ffn_command(int argc, char **argv);

#endif
