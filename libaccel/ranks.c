// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/* Sets of ranks in words, for error texts. */
#include "ranks.h"

#include <stdio.h>
#include <string.h>

int accel_ranks_first(const uint64_t *ranks)
{
	for (int i = 0; i < ACCEL_RANKS_WORDS; i++)
		if (ranks[i])
			return i * 64 + __builtin_ctzll(ranks[i]);
	return -1;
}

const char *accel_ranks_text(const uint64_t *ranks, char *text, size_t room)
{
	int count = 0, first = accel_ranks_first(ranks);
	size_t len;

	for (int i = 0; i < ACCEL_RANKS_WORDS; i++)
		count += __builtin_popcountll(ranks[i]);
	len = (size_t)snprintf(text, room, count > 1 ? "ranks " : count ? "rank " : "no rank");
	for (int r = first, last; r >= 0 && r < ACCEL_RANKS_MAX; r = last + 1) {
		char run[32];
		int bytes;

		last = r;
		if (!accel_ranks_has(ranks, r))
			continue;
		while (last + 1 < ACCEL_RANKS_MAX && accel_ranks_has(ranks, last + 1))
			last++;
		bytes = snprintf(run, sizeof(run), last > r ? "%s%d-%d" : "%s%d",
				 r > first ? ", " : "", r, last);
		if (len + (size_t)bytes + sizeof("...") > room) {
			snprintf(text + len, room > len ? room - len : 0, "...");
			break;
		}
		memcpy(text + len, run, (size_t)bytes + 1);
		len += (size_t)bytes;
	}
	return text;
}
