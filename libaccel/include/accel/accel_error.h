/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What went wrong, as data, and where the library's log goes.
 *
 * Every fallible call returns 0 or a count, or a negative errno that says what kind of failure it
 * was:
 *
 *     -EINVAL        a bad value
 *     -E2BIG         an option struct newer than this library, with a field it lacks
 *     -EOPNOTSUPP    a known field, unsupported value
 *     -ENOENT        no such thing
 *     -ENOMEM        no memory for bookkeeping
 *     -ENOSPC        no room for a buffer or a window
 *     -EOVERFLOW     sizes that do not fit
 *     -EBUSY         the lane is in another phase
 *     -EAGAIN        timeout 0: not yet
 *     -ETIMEDOUT     a peer was not heard from in time
 *     -ECONNRESET    a peer's process has died
 *     -ESHUTDOWN     a peer has left (destroyed its object)
 *     -ESTALE        a peer has masked this rank
 *     -ECANCELED     accel_ep_abort() was called
 *     -EPROTO        a peer speaks nonsense
 *     -EHOSTUNREACH  no transport reaches a peer
 *
 * accel_error_get() gives the rest: which rank, which phase, what had arrived, and a sentence.
 */
#ifndef ACCEL_ERROR_H
#define ACCEL_ERROR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define ACCEL_RANKS_MAX 1024 /* ranks in one group */
#define ACCEL_ERROR_TEXT_BYTES 512

enum accel_phase {
	ACCEL_PHASE_NONE = 0,
	/* making a device, buffer, group or EP context, or letting ranks join one */
	ACCEL_PHASE_CREATE = 1,
	ACCEL_PHASE_DISPATCH = 2,
	ACCEL_PHASE_COMBINE = 3,
	ACCEL_PHASE_DESTROY = 4,
};

/** struct accel_error - the last failure of an object; set size before accel_error_get() */
struct accel_error {
	size_t size;
	int32_t code;	/* the negative errno that the call returned; 0: none yet */
	int32_t rank;	/* the peer it is about, or -1 */
	uint32_t phase; /* enum accel_phase */
	int32_t lane;	/* or -1 */
	uint64_t round; /* of that lane, the first is 1; 0: no round */
	uint64_t missing[ACCEL_RANKS_MAX / 64]; /* bit r: rank r was not heard from */
	/* one sentence: the cause and, where there is one, the cure */
	char text[ACCEL_ERROR_TEXT_BYTES];
};

/**
 * accel_error_get - the last failure of an object as data
 * @obj:   a device, buffer, group or EP context; NULL: the calling thread's last failed *_create or
 * *_open, whose
 *         object does not exist
 * @error: written; @error->size says how much of the struct the caller knows
 * Context: does not block. For an EP context, the last failure of any lane: call it from the thread
 * that failed.
 * Return: 0; -EINVAL @error is NULL, its size is 0 or @obj is no object of this library.
 */
int accel_error_get(const void *obj, struct accel_error *error);

enum accel_log_level {
	ACCEL_LOG_NONE = 0,
	ACCEL_LOG_ERROR = 1,
	ACCEL_LOG_WARN = 2,
	ACCEL_LOG_INFO = 3,
	ACCEL_LOG_DEBUG = 4,
};

/**
 * accel_log_set - where log lines go
 * @level: enum accel_log_level: lines up to it are given out; 0: none
 * @fn:    called with each line, without a newline, from the thread that logs; NULL: standard error
 * @arg:   handed to @fn
 * Until the first call the environment decides: ACCEL_LOG=error|warn|info|debug writes to standard
 * error, else nothing.
 * Context: process-wide; safe from any thread, not while another thread may be logging through the
 * old @fn's @arg.
 * Return: 0; -EINVAL unknown level.
 */
int accel_log_set(int level, void (*fn)(void *arg, int level, const char *line), void *arg);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
