/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* What a process holds, counted from outside the library: descriptors, and mappings of memfds. */
#ifndef ACCEL_TESTS_LEAKS_H
#define ACCEL_TESTS_LEAKS_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>

struct leaks {
	unsigned fds, maps;
};

static inline struct leaks leaks_count(void)
{
	struct leaks held = {0};
	DIR *dir = opendir("/proc/self/fd");
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	while (dir && readdir(dir))
		held.fds++;
	while (maps && fgets(line, sizeof(line), maps))
		held.maps += strstr(line, "/memfd:") || strstr(line, "/anon_hugepage");
	if (dir)
		closedir(dir);
	if (maps)
		fclose(maps);
	return held;
}

#define CHECK_NO_LEAKS(before)                                                                     \
	do {                                                                                       \
		struct leaks leaks_after = leaks_count();                                          \
		CHECK_EQ(leaks_after.fds, (before).fds);                                           \
		CHECK_EQ(leaks_after.maps, (before).maps);                                         \
	} while (0)

#endif
