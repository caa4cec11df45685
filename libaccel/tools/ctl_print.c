// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* What accelctl prints: sizes for people, documents, refusals. */
#include "ctl.h"

#include <accel/accel.h>
#include <inttypes.h>
#include <stdio.h>

const char *ctl_bytes(char text[CTL_TEXT_BYTES], uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(text, CTL_TEXT_BYTES, "%" PRIu64 " B", bytes);
		return text;
	}
	for (; value >= 1024 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
		value /= 1024;
	snprintf(text, CTL_TEXT_BYTES, "%.1f %s", value, units[unit]);
	return text;
}

const char *ctl_limit(char text[CTL_TEXT_BYTES], uint64_t bytes)
{
	if (bytes)
		return ctl_bytes(text, bytes);
	snprintf(text, CTL_TEXT_BYTES, "none");
	return text;
}

void ctl_json_print(json_t *document, bool compact)
{
	json_dumpf(document, stdout, compact ? JSON_COMPACT : JSON_INDENT(2));
	putchar('\n');
	json_decref(document);
}

int ctl_refused(void)
{
	struct accel_error error = {.size = sizeof(error)};

	accel_error_get(NULL, &error);
	fprintf(stderr, "accelctl: %s\n", error.text);
	return CTL_MISSING;
}
