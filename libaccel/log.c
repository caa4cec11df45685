// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * Where log lines go: the caller's function, or standard error as "accel: error: text". Nothing is
 * written unless ACCEL_LOG or accel_log_set() asks for it.
 */
#include "object.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 1024

static const char *const level_names[] = {
	[ACCEL_LOG_NONE] = "none", [ACCEL_LOG_ERROR] = "error", [ACCEL_LOG_WARN] = "warn",
	[ACCEL_LOG_INFO] = "info", [ACCEL_LOG_DEBUG] = "debug",
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic int level_max = ACCEL_LOG_NONE;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the two below */
static void (*sink)(void *arg, int level, const char *line);
static void *sink_arg;

static void level_from_env(void)
{
	const char *env = getenv("ACCEL_LOG");

	for (int level = ACCEL_LOG_ERROR; env && level <= ACCEL_LOG_DEBUG; level++)
		if (!strcmp(env, level_names[level]))
			atomic_store(&level_max, level);
}

int accel_log_set(int level, void (*fn)(void *arg, int level, const char *line), void *arg)
{
	if (level < ACCEL_LOG_NONE || level > ACCEL_LOG_DEBUG)
		return -EINVAL;
	pthread_once(&once, level_from_env); /* now, so that it cannot undo this later */
	pthread_mutex_lock(&lock);
	sink = fn;
	sink_arg = arg;
	atomic_store(&level_max, level);
	pthread_mutex_unlock(&lock);
	return 0;
}

void accel_log(enum accel_log_level level, const char *fmt, ...)
{
	void (*fn)(void *arg, int level, const char *line);
	char line[LINE_BYTES];
	va_list args;
	void *arg;

	pthread_once(&once, level_from_env);
	if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed))
		return;
	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c <
		    ' ') /* text may hold a peer's words: one line stays one line */
			*c = '?';
	pthread_mutex_lock(&lock);
	fn = sink;
	arg = sink_arg;
	pthread_mutex_unlock(&lock);
	if (fn)
		fn(arg, level, line); /* unlocked: it may call the library */
	else
		fprintf(stderr, "accel: %s: %s\n", level_names[level], line);
}
