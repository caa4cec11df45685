/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* Whether the last error of an object, or of the thread, says what it should. */
#ifndef ACCEL_TESTS_ERROR_IS_H
#define ACCEL_TESTS_ERROR_IS_H

#include "tap.h"

#include <accel/accel_error.h>
#include <string.h>

static inline bool error_is(const void *obj, int code, int about, const char *text)
{
	struct accel_error error = {.size = sizeof(error)};

	return CHECK_EQ(accel_error_get(obj, &error), 0) && CHECK_EQ(error.code, code) &&
	       tap_check(error.rank == about && strstr(error.text, text), __FILE__, __LINE__,
			 "not about rank %d, or without \"%s\": rank %d: %s", about, text,
			 error.rank, error.text);
}

/* What the thread's last failed create, or whatever was given no object, says. */
static inline const char *error_text(void)
{
	static _Thread_local struct accel_error error;

	error = (struct accel_error){.size = sizeof(error)};
	accel_error_get(NULL, &error);
	return error.text;
}

/* A text that must hold a part; shown if it does not. */
#define CHECK_HOLDS(text, part)                                                                    \
	({                                                                                         \
		const char *tap_text = (text);                                                     \
		tap_check(strstr(tap_text, part), __FILE__, __LINE__, "not \"%s\": \"%s\"", part,  \
			  tap_text);                                                               \
	})
#define CHECK_SAYS(part) CHECK_HOLDS(error_text(), part)

#endif
