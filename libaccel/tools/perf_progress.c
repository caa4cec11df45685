// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* The progress line; see perf_progress.h. */
#include "perf_progress.h"

#include "perf_machine.h"
#include "perf_ranks.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static int64_t start_ns, said_ns;

void perf_progress(unsigned done, unsigned steps, const char *fmt, ...)
{
	int64_t now = perf_now_ns();
	bool terminal = isatty(STDERR_FILENO);
	char what[96];
	va_list args;

	if (!start_ns)
		start_ns = said_ns = now;
	if (!perf_ranks_is_first() || (!terminal && now - said_ns < PERF_PROGRESS_NS))
		return;
	said_ns = now;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	fprintf(stderr, "%s%u of %u, %d s: %s%s", terminal ? "\r\033[K" : "accel-perf: ", done + 1,
		steps, (int)((now - start_ns) / 1000000000), what, terminal ? "" : "\n");
	fflush(stderr);
}

void perf_progress_clear(void)
{
	if (perf_ranks_is_first() && isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}
