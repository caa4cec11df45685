// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * See error.h. Sentences quote names from files and end on terminals, so control characters are
 * masked.
 */
#include "error.h"

#include <accel/accel_error.h>
#include <stdarg.h>
#include <stdio.h>

int moe_error_set(struct moe_error *err, int code, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return code;
	*err = (struct moe_error){.code = code, .rank = -1, .lane = -1};
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	for (char *c = err->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return code;
}

int moe_error_accel(struct moe_error *err, const void *obj, int code, const char *what)
{
	struct accel_error details = {.size = sizeof(details), .rank = -1, .lane = -1};

	accel_error_get(obj, &details);
	moe_error_set(err, code, "%s%s%s", what ? what : "", what ? ": " : "", details.text);
	err->rank = details.rank;
	err->lane = details.lane;
	err->phase = details.phase;
	err->round = details.round;
	return code;
}
