/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* accel-moe trace: record the routing of a run, or say how even a recorded one is. */
#ifndef ACCEL_RUNTIME_TRACE_COMMAND_H
#define ACCEL_RUNTIME_TRACE_COMMAND_H

/** moe_trace_main - argv[0] is "trace"; returns an enum moe_exit */
int moe_trace_main(int argc, char **argv);

#endif
