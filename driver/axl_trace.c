// SPDX-License-Identifier: GPL-2.0-only
// Copyright (c) 2026 The accel authors
/* The tracepoints' bodies; what they say is in axl_trace.h. */
#define CREATE_TRACE_POINTS
#include "axl_trace.h"
