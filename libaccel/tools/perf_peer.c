// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* What the peers share; see perf_peer.h. */
#define _GNU_SOURCE
#include "perf_peer.h"

#include <dirent.h>
#include <sched.h>
#include <stdlib.h>

enum {
	SWIGLU_ALONE = 16384, /* elements from which waking the team pays */
};

struct swiglu_job {
	const struct k_ops *ops;
	struct k_swiglu swiglu;
};

static void swiglu_job(void *arg, unsigned member, unsigned threads)
{
	const struct swiglu_job *job = arg;

	job->ops->swiglu(&job->swiglu, member, threads);
}

void perf_peer_swiglu(const struct perf_peer_shape *shape, uint32_t m, const float *gate_up,
		      enum k_dtype dtype, void *out)
{
	size_t width = shape->intermediate,
	       element = dtype == K_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
	struct swiglu_job job = {
		.ops = shape->ops,
		.swiglu =
			{
				.rows = m,
				.width = shape->intermediate,
				.gate = gate_up,
				.up = gate_up + width,
				.gate_stride = 2 * width * sizeof(float),
				.up_stride = 2 * width * sizeof(float),
				.y_dtype = dtype,
				.y = out,
				.y_stride = width * element,
			},
	};

	if (m * width > SWIGLU_ALONE)
		perf_team_run(shape->team, swiglu_job, &job);
	else
		swiglu_job(&job, 0, 1);
}

void perf_threads_take(struct perf_threads *threads)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *task;

	threads->count = 0;
	while (tasks && (task = readdir(tasks)) && threads->count < 2 * PERF_TEAM_MAX)
		if (*task->d_name != '.')
			threads->tid[threads->count++] = atoi(task->d_name);
	if (tasks)
		closedir(tasks);
}

static bool holds(const struct perf_threads *threads, int tid)
{
	for (unsigned i = 0; i < threads->count; i++)
		if (threads->tid[i] == tid)
			return true;
	return false;
}

void perf_threads_pin_new(const struct perf_threads *before)
{
	struct perf_threads now;
	unsigned index = 1;
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	perf_threads_take(&now);
	for (unsigned i = 0; i < now.count; i++) {
		unsigned seen = 0, core = index % (unsigned)CPU_COUNT(&allowed);
		cpu_set_t one;

		if (holds(before, now.tid[i]))
			continue;
		CPU_ZERO(&one);
		for (int c = 0; c < CPU_SETSIZE; c++)
			if (CPU_ISSET(c, &allowed) && seen++ == core)
				CPU_SET(c, &one);
		sched_setaffinity(now.tid[i], sizeof(one), &one);
		index++;
	}
}
