/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * What went wrong, as a value: a negative errno and one sentence that names the cause and, where
 * there is one, the cure. The runtime prints nothing: only the *_main functions turn this into text
 * on stderr.
 */
#ifndef ACCEL_RUNTIME_ERROR_H
#define ACCEL_RUNTIME_ERROR_H

#include <stdint.h>

/* What the programs exit with. */
enum moe_exit {
	MOE_EXIT_PASS = 0,
	MOE_EXIT_FAIL = 1,    /* a check failed */
	MOE_EXIT_USAGE = 2,   /* the command line is wrong */
	MOE_EXIT_MISSING = 3, /* a file, room or a device is missing */
	MOE_EXIT_PEER = 4,    /* a peer failed */
};

struct moe_error {
	int code;	/* -errno */
	int rank, lane; /* the peer and the lane it is about, or -1 */
	unsigned phase; /* enum accel_phase */
	uint64_t round; /* of that lane, or 0 */
	char text[512];
};

/**
 * moe_error_set - fill in an error
 * @err:  where to; NULL: only the code is wanted
 * @code: -errno
 * Return: @code, so that a caller writes return moe_error_set(...).
 */
int moe_error_set(struct moe_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * moe_error_accel - the last failure of an object of libaccel
 * @obj:  as accel_error_get() takes it: NULL is the last object that could not be made
 * @what: was being done, in front of the library's sentence; NULL: the sentence alone
 * Return: @code.
 */
int moe_error_accel(struct moe_error *err, const void *obj, int code, const char *what);

#endif
