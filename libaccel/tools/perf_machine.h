/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What this machine can do at best, measured by the threads that are compared with it. */
#ifndef ACCEL_PERF_MACHINE_H
#define ACCEL_PERF_MACHINE_H

#include "perf_team.h"

#include <stddef.h>
#include <stdint.h>

int64_t perf_now_ns(void);
void perf_cpu_name(char *name, size_t name_bytes);
size_t perf_cache_bytes(void); /* the last level; a generous guess where the system does not say */
size_t perf_memory_free_bytes(void); /* MemAvailable, 0 if unknown */
void *perf_map(size_t bytes);	     /* zeroed, huge pages where there are any; NULL: no memory */
void perf_unmap(void *map, size_t bytes);

/* Bytes a second that the team reads of [bytes] of memory, the best of a few passes; larger than the cache, please. */
double perf_read_rate(struct perf_team *team, const void *memory, size_t bytes);

/* f32 multiply-adds a second in registers, the best of a few runs. */
double perf_mac_rate(struct perf_team *team);

#endif
